//! Links that apps of the guest open and the host shows, where it may.

use crate::limits;

/// Schemes that mean the same on every system, and start nothing but a browser or a mail program.
const SCHEMES: [&str; 3] = ["https", "http", "mailto"];

/// Whether this can be a link that crosses: one of a few schemes, printable ASCII without spaces, as URIs are (RFC 3986, section 2).
#[must_use]
pub fn is_link(uri: &str) -> bool {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| SCHEMES.contains(&scheme.as_str()))
        && uri.len() <= limits::LINK
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_the_web_and_mail_cross() {
        for good in ["https://a/b?c=d#e", "HTTP://a", "mailto:a@b?subject=c%20d", "https://[::1]:80/"] {
            assert!(is_link(good), "{good}");
        }
        let long = format!("https://a/{}", "x".repeat(limits::LINK));
        for bad in [
            "",
            "https",
            "file:///etc/passwd",
            "javascript:x",
            "-https://a",
            " https://a",
            "https://a b",
            "https://a\nb",
            "https://ä",
            "x-https://a",
            "https\u{202e}://a",
            "data:text/html,x",
            "smb://a/b",
            "/etc/passwd",
            &long,
        ] {
            assert!(!is_link(bad), "{bad:?}");
        }
    }
}
