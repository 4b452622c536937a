//! The host's time zone, which the guest's follows: by its name, as `TZ` or the link `/etc/localtime` has it.
//!
//! It is looked at whenever the agent is to look at its clock: a traveller's guest follows within a minute.

use std::ffi::OsStr;
use std::path::Path;

use inlay_protocol::control::{Command, is_time_zone};

/// What the agent was told of it.
#[derive(Debug)]
pub struct Zone {
    follows: bool,
    told: Option<String>,
}

impl Zone {
    /// Nothing was told; nothing will be where the guest has a time zone of its own.
    #[must_use]
    pub fn new(follows: bool) -> Self {
        Self { follows, told: None }
    }

    /// Another agent: it knows nothing.
    pub fn begin(&mut self) {
        self.told = None;
    }

    /// What the agent is to be told, if it changed.
    pub fn changed(&mut self) -> Option<Command> {
        if !self.follows {
            return None;
        }
        let zone = name(std::env::var_os("TZ").as_deref(), Path::new("/etc/localtime"))?;
        if self.told.as_ref() == Some(&zone) {
            return None;
        }
        self.told = Some(zone.clone());
        Some(Command::TimeZone(zone))
    }
}

/// The name of the time zone, where it has one: a file that was copied there has none.
fn name(variable: Option<&OsStr>, localtime: &Path) -> Option<String> {
    let variable = variable.and_then(OsStr::to_str).map(|zone| zone.strip_prefix(':').unwrap_or(zone));
    let link = std::fs::read_link(localtime).ok();
    let linked = link.as_ref().and_then(|link| Some(link.to_str()?.split_once("/zoneinfo/")?.1));
    variable.into_iter().chain(linked).find(|zone| is_time_zone(zone)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn named_by_the_variable_else_by_the_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("localtime");
        let named = |variable: &str| name(Some(variable.as_ref()), &link);
        assert_eq!(name(None, &link), None, "there is none");
        symlink("../usr/share/zoneinfo/America/New_York", &link).unwrap();
        assert_eq!(name(None, &link).as_deref(), Some("America/New_York"));
        assert_eq!(named("Asia/Tokyo").as_deref(), Some("Asia/Tokyo"));
        assert_eq!(named(":Asia/Tokyo").as_deref(), Some("Asia/Tokyo"));
        for no_name in ["", "../../etc/shadow", ":/usr/share/zoneinfo/UTC", "<+03>-3"] {
            assert_eq!(named(no_name).as_deref(), Some("America/New_York"), "{no_name}");
        }
        std::fs::remove_file(&link).unwrap();
        symlink("/usr/share/zoneinfo/../../../etc/shadow", &link).unwrap();
        assert_eq!(name(None, &link), None);
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, "TZif2").unwrap();
        assert_eq!(name(None, &link), None, "a copy");
    }
}
