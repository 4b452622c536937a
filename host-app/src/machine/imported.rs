//! What is different about a machine of an imported disk: its guest may have no agent, and runs all the same.

use std::fs;
use std::path::PathBuf;

use crate::paths::{MachineName, MachinePaths};

/// What is known of an imported guest's agent.
#[derive(Debug)]
pub struct Imported {
    name: MachineName,
    /// There once one came.
    mark: PathBuf,
    expected: bool,
}

impl Imported {
    /// As its folder says.
    #[must_use]
    pub fn of(paths: &MachinePaths) -> Self {
        let mark = paths.agent_came();
        Self { name: paths.name().clone(), expected: mark.exists(), mark }
    }

    /// Whether an agent is to be waited for, as one came at an earlier start.
    #[must_use]
    pub fn expects_agent(&self) -> bool {
        self.expected
    }

    /// What whoever needs the agent is told, where none is expected.
    #[must_use]
    pub fn no_agent(&self) -> Option<String> {
        let name = &self.name;
        (!self.expected).then(|| {
            format!("its guest has no agent: `inlay window {name}` shows its screen, `inlay agent install {name}` puts one in")
        })
    }

    /// An agent came.
    pub fn came(&mut self) {
        self.expected = true;
        if let Err(error) = fs::write(&self.mark, "") {
            tracing::warn!(%error, "the next start will not wait for the agent");
        }
    }

    /// None came in its time: the next start does not wait for it.
    pub fn did_not_come(&mut self) {
        self.expected = false;
        match fs::remove_file(&self.mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the next start will wait for the agent again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Folders;

    #[test]
    fn an_agent_is_expected_once_one_came_and_not_after_it_stayed_away() {
        let root = tempfile::tempdir().unwrap();
        let paths = Folders::below(root.path()).unwrap().machine(&"m".parse().unwrap());
        fs::create_dir_all(paths.data()).unwrap();
        let mut imported = Imported::of(&paths);
        assert!(!imported.expects_agent() && imported.no_agent().unwrap().contains("inlay agent install m"));
        imported.came();
        assert!(Imported::of(&paths).expects_agent() && imported.no_agent().is_none());
        imported.did_not_come();
        assert!(!Imported::of(&paths).expects_agent() && imported.no_agent().is_some());
        imported.did_not_come();
    }
}
