//! The language of the host's user, which the guest's apps are to speak.

use std::ffi::CString;

/// What apps have in their environment for a locale of the host's (`language_COUNTRY.ENCODING@MODIFIER`; empty for none): that
/// locale where this system has it, else only its language, which texts follow and formats do not.
#[must_use]
pub fn variables(locale: &str) -> Vec<(&'static str, String)> {
    let plain = locale.split(['.', '@']).next().unwrap_or_default();
    if matches!(plain, "" | "C" | "POSIX") {
        return Vec::new();
    }
    if is_there(locale) {
        return vec![("LANG", locale.to_owned())];
    }
    let language = plain.split('_').next().filter(|language| *language != plain);
    let all: Vec<&str> = std::iter::once(plain).chain(language).collect();
    vec![("LANGUAGE", all.join(":"))]
}

/// Whether the C library finds a locale.
fn is_there(locale: &str) -> bool {
    let Ok(name) = CString::new(locale) else { return false };
    // SAFETY: the name ends with a NUL; no locale is changed by this one.
    let found = unsafe { libc::newlocale(libc::LC_ALL_MASK, name.as_ptr(), std::ptr::null_mut()) };
    if found.is_null() {
        return false;
    }
    // SAFETY: it was made just now, and is used by nothing.
    unsafe { libc::freelocale(found) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_that_is_there_else_its_language() {
        for none in ["", "C", "POSIX", "C.UTF-8"] {
            assert!(variables(none).is_empty(), "{none}");
        }
        let language = |names: &str| vec![("LANGUAGE", names.to_owned())];
        assert_eq!(variables("xx_YY.UTF-8@none"), language("xx_YY:xx"));
        assert_eq!(variables("xx"), language("xx"));
        assert!(is_there("C.UTF-8") && !is_there("../../etc/passwd") && !is_there("a\0b"));
    }
}
