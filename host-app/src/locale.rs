//! The language of the host's user.

/// Bytes of a name.
const MOST: usize = 64;

/// The locale, as the environment names it (`language_COUNTRY.ENCODING@MODIFIER`); empty for none.
#[must_use]
pub fn named() -> String {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(set).unwrap_or_default();
    if is_plain(&named) { named } else { String::new() }
}

fn is_plain(name: &str) -> bool {
    name.len() <= MOST && name.chars().all(|char| char.is_ascii_alphanumeric() || "_.@-".contains(char))
}

/// What a locale is called in the list of those that a Debian system makes (`/etc/locale.gen`), if it is of a language and a country
/// and in UTF-8: other ones are left to their users.
#[must_use]
pub fn generated(name: &str) -> Option<String> {
    let (name, modifier) =
        name.split_once('@').map_or((name, None), |(name, modifier)| (name, Some(modifier)));
    let (place, encoding) = name.split_once('.')?;
    let (language, country) = place.split_once('_')?;
    let word = |word: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let utf8 = encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8");
    let plain = word(language, 2..=3) && word(country, 2..=3) && modifier.is_none_or(|m| word(m, 1..=16));
    (utf8 && plain).then(|| match modifier {
        None => format!("{place}.UTF-8"),
        Some(modifier) => format!("{place}.UTF-8@{modifier}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_with_a_country_are_made() {
        assert_eq!(generated("de_DE.UTF-8").as_deref(), Some("de_DE.UTF-8"));
        assert_eq!(generated("pt_BR.utf8").as_deref(), Some("pt_BR.UTF-8"));
        assert_eq!(generated("ca_ES.UTF-8@valencia").as_deref(), Some("ca_ES.UTF-8@valencia"));
        for other in [
            "",
            "C",
            "C.UTF-8",
            "POSIX",
            "de",
            "de_DE",
            "de_DE@euro",
            "de_DE.ISO-8859-1",
            "de_../x.UTF-8",
            "d e_DE.UTF-8",
        ] {
            assert_eq!(generated(other), None, "{other}");
        }
        assert!(is_plain("sr_RS.UTF-8@latin") && !is_plain("a b") && !is_plain(&"a".repeat(MOST + 1)));
    }
}
