//! A machine's configuration: a small TOML file that the user may edit.
//!
//! Unknown keys are refused, and every error names the file, the line and the key.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use inlay_vmm_core::devices::net::tap;
use serde::{Deserialize, Serialize};

/// Largest configuration file that is read.
const FILE_MAX: u64 = 64 * 1024;

/// Most characters of a machine's own words for its kernel; kernels take 2048 in all.
pub const OPTIONS_MAX: usize = 1024;

/// Who runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Our own where the host's KVM runs stock kernels, else QEMU
    #[default]
    Auto,
    /// Our own, on the host's processor
    Kvm,
    /// QEMU, on any host
    Qemu,
}

impl Engine {
    /// As options and configurations name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Software emulation: works everywhere.
    #[default]
    Tcg,
    /// The processor, through `/dev/kvm`.
    Kvm,
}

/// What the guest's network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Network {
    /// A network of its own, which reaches others as the user's programs do.
    #[default]
    User,
    /// Nothing: it has no card.
    None,
    /// A tap device of the host, which the user made.
    Tap(String),
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("tap:") {
            Some(name) if tap::is_name(name) => Ok(Self::Tap(name.into())),
            None if text == "user" => Ok(Self::User),
            None if text == "none" => Ok(Self::None),
            _ => Err(format!("{text:?} is not \"user\", \"none\" or \"tap:\" with the name of an interface")),
        }
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        match network {
            Network::User => "user".into(),
            Network::None => "none".into(),
            Network::Tap(name) => format!("tap:{name}"),
        }
    }
}

/// What frames windows and menus of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Border {
    /// Nothing.
    #[default]
    None,
    /// A colour that follows from the machine's name.
    Auto,
    /// This one: red, green, blue.
    Colour([u8; 3]),
}

impl Border {
    /// Colours that are told apart at a glance, on dark desktops and light ones.
    const COLOURS: [[u8; 3]; 8] = [
        [0xd9, 0x3a, 0x2b],
        [0xe5, 0x8a, 0x00],
        [0x8a, 0x9a, 0x1a],
        [0x2e, 0x9e, 0x4f],
        [0x00, 0x9a, 0xa6],
        [0x2f, 0x6f, 0xd6],
        [0x7c, 0x4d, 0xd6],
        [0xc9, 0x3f, 0x9c],
    ];

    /// The colour (red, green, blue) for a machine of this name.
    #[must_use]
    pub fn colour(self, name: &str) -> Option<[u8; 3]> {
        match self {
            Self::None => None,
            Self::Colour(colour) => Some(colour),
            Self::Auto => {
                let sum = name.bytes().fold(5381_usize, |sum, byte| sum.wrapping_mul(33) ^ usize::from(byte));
                Some(Self::COLOURS[sum % Self::COLOURS.len()])
            }
        }
    }
}

impl std::str::FromStr for Border {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |digits: &str| {
            let value = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 6)?.to_be_bytes();
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some([value[1], value[2], value[3]])
        };
        match (text, text.strip_prefix('#').and_then(hex)) {
            ("none", _) => Ok(Self::None),
            ("auto", _) => Ok(Self::Auto),
            (_, Some(colour)) => Ok(Self::Colour(colour)),
            _ => Err(format!("{text:?} is not \"none\", \"auto\" or a colour such as \"#d93a2b\"")),
        }
    }
}

impl TryFrom<String> for Border {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for Border {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => to.write_str("none"),
            Self::Auto => to.write_str("auto"),
            Self::Colour([red, green, blue]) => write!(to, "#{red:02x}{green:02x}{blue:02x}"),
        }
    }
}

impl From<Border> for String {
    fn from(border: Border) -> Self {
        border.to_string()
    }
}

/// How X11 apps look on monitors of a scale above 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum X11Apps {
    /// They draw at the scale of the sharpest monitor: those that know of no scale are small.
    #[default]
    Sharp,
    /// They draw at 1 and are enlarged: none is small, and none is quite sharp.
    Enlarged,
}

/// What becomes of a machine when its last window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastWindow {
    /// It stays on.
    #[default]
    Keep,
    /// It is switched off, once no app or command of it runs.
    Stop,
}

/// What begins a guest that has a boot loader of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// QEMU's own BIOS
    Bios,
    /// UEFI, by the package ovmf
    Uefi,
}

/// The configuration of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who runs it.
    #[serde(default)]
    pub engine: Engine,
    /// What executes its instructions.
    #[serde(default)]
    pub accel: Accel,
    /// Processors, 1 to 64.
    #[serde(default = "Config::default_cpus")]
    pub cpus: u32,
    /// Memory in MiB, 256 to 1048576.
    #[serde(default = "Config::default_memory")]
    pub memory: u32,
    /// What its network card is connected to.
    #[serde(default)]
    pub network: Network,
    /// What frames its windows and menus.
    #[serde(default)]
    pub border: Border,
    /// Whether it has an item in the desktop's tray.
    #[serde(default = "Config::default_tray")]
    pub tray: bool,
    /// MiB of what its apps copied that are kept when the app ends, 0 to 1024; 0 keeps nothing.
    #[serde(default = "Config::default_keep_copied")]
    pub keep_copied: u32,
    /// Minutes after which it is paused while nothing of it is in use, 0 to 10080; 0 never pauses it.
    #[serde(default = "Config::default_autopause")]
    pub autopause: u32,
    /// What becomes of it when its last window closes.
    #[serde(default)]
    pub last_window: LastWindow,
    /// How its X11 apps look on monitors of a scale above 1.
    #[serde(default)]
    pub x11_apps: X11Apps,
    /// Whether its time zone is the host's.
    #[serde(default = "Config::default_host_time_zone")]
    pub host_time_zone: bool,
    /// More words for its kernel's command line, of at most [`OPTIONS_MAX`] printable characters.
    #[serde(default)]
    pub kernel_options: String,
    /// What begins the guest of an imported disk; it has no base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Id of the base image that its root disk belongs to, for life; empty where there is a firmware.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
}

impl Config {
    /// A new machine's configuration.
    #[must_use]
    pub fn new(base: String) -> Self {
        Self {
            engine: Engine::default(),
            accel: Accel::default(),
            cpus: Self::default_cpus(),
            memory: Self::default_memory(),
            network: Network::default(),
            border: Border::default(),
            tray: Self::default_tray(),
            keep_copied: Self::default_keep_copied(),
            autopause: Self::default_autopause(),
            last_window: LastWindow::default(),
            x11_apps: X11Apps::default(),
            host_time_zone: Self::default_host_time_zone(),
            kernel_options: String::new(),
            firmware: None,
            base,
        }
    }

    /// The configuration of a machine of an imported disk.
    #[must_use]
    pub fn imported(firmware: Firmware) -> Self {
        Self { firmware: Some(firmware), engine: Engine::Qemu, ..Self::new(String::new()) }
    }

    fn default_cpus() -> u32 {
        2
    }

    fn default_tray() -> bool {
        true
    }

    fn default_keep_copied() -> u32 {
        16
    }

    fn default_autopause() -> u32 {
        10
    }

    fn default_host_time_zone() -> bool {
        true
    }

    fn default_memory() -> u32 {
        1024
    }

    /// Reads a machine's configuration.
    ///
    /// # Errors
    /// The file is missing or unreadable, or line and key of what is wrong in it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { file: file.into(), source };
        if fs::metadata(file).map_err(io)?.len() > FILE_MAX {
            return Err(ConfigError::TooLarge(file.into()));
        }
        Self::parse(file, &fs::read_to_string(file).map_err(io)?)
    }

    /// Parses the text of `file`.
    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            file: file.into(),
            line: line_at(text, error.span().map_or(0, |span| span.start)),
            message: one_line(error.message(), key_at(text, error.span().map_or(0, |span| span.start))),
        })?;
        let key = |key: &'static str, rule: &'static str, good: bool| {
            let line = line_of_key(text, key);
            if good { Ok(()) } else { Err(ConfigError::Value { file: file.into(), line, key, rule }) }
        };
        key("cpus", "between 1 and 64", (1..=64).contains(&config.cpus))?;
        key("memory", "between 256 and 1048576 (MiB)", (256..=1_048_576).contains(&config.memory))?;
        key("keep_copied", "between 0 and 1024 (MiB)", config.keep_copied <= 1024)?;
        key("autopause", "between 0 and 10080 (minutes)", config.autopause <= 10_080)?;
        let options = &config.kernel_options;
        let plain = options.len() <= OPTIONS_MAX && options.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        key("kernel_options", "printable ASCII, 1024 characters at most", plain)?;
        // It becomes part of a path.
        let hex = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match config.firmware {
            None => key(
                "base",
                "the id of a base image: 16 hexadecimal digits",
                config.base.len() == 16 && hex(&config.base),
            )?,
            Some(_) => {
                key("base", "left out where `firmware` is", config.base.is_empty())?;
                let rule = "empty: the guest's own boot loader has its kernel's words";
                key("kernel_options", rule, config.kernel_options.is_empty())?;
            }
        }
        Ok(config)
    }

    /// The text of the file: every key with its meaning.
    fn text(&self) -> Result<String, toml::ser::Error> {
        let keys = toml::to_string(self)?;
        let origin = match self.firmware {
            None => {
                "# kernel_options: more words for its kernel's command line.\n\
                 # base: the image that its root disk is an overlay of; do not change it.\n"
            }
            Some(_) => {
                "# firmware: what runs the disk's own boot loader, \"bios\" or \"uefi\"; only QEMU has it.\n"
            }
        };
        Ok(format!(
            "# A machine of Inlay; changes count from its next start.\n\
             # engine: \"auto\", \"kvm\" (our own) or \"qemu\". accel, of qemu: \"tcg\" (software emulation) or \"kvm\". cpus: 1 to 64. memory: in MiB.\n\
             # network: \"user\" (its own, behind this host), \"none\" or \"tap:NAME\" (a tap device that you made).\n\
             # border: around windows and menus, \"none\", \"auto\" (a colour for the machine's name) or a colour (\"#d93a2b\").\n\
             # tray: whether it has an item in the desktop's tray.\n\
             # keep_copied: MiB of what its apps copied that can be pasted after they ended; 0 keeps nothing.\n\
             # autopause: minutes after which it is paused while it has no window and no app or command of it runs; 0 never.\n\
             # last_window: what becomes of it when its last window closes, \"keep\" or \"stop\".\n\
             # x11_apps: on monitors of a scale above 1, \"sharp\" (those that know of no scale are small) or \"enlarged\" (none is small, none quite sharp).\n\
             # host_time_zone: whether its time zone is the host's, also when that changes.\n\
             {origin}{keys}"
        ))
    }

    /// Checks that it can be read again from `file`.
    ///
    /// # Errors
    /// A value out of its range.
    pub fn check(&self, file: &Path) -> Result<(), ConfigError> {
        self.checked_text(file).map(drop)
    }

    fn checked_text(&self, file: &Path) -> Result<String, ConfigError> {
        let other = |error| ConfigError::Io { file: file.into(), source: io::Error::other(error) };
        let text = self.text().map_err(other)?;
        Self::parse(file, &text)?;
        Ok(text)
    }

    /// Writes a new file; one that exists is never replaced.
    ///
    /// # Errors
    /// A value is out of its range, the file exists already or cannot be written; nothing half-written is left.
    pub fn write_new(&self, file: &Path) -> Result<(), ConfigError> {
        let io = |source| ConfigError::Io { file: file.into(), source };
        let text = self.checked_text(file)?;
        let mut out = fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(io)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(|error| {
            // Best effort: the write's own error is the one to tell.
            let _ = fs::remove_file(file);
            io(error)
        })
    }
}

/// What can be wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("cannot use the configuration {file}")]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Far too large to be one.
    #[error("the configuration {0} is larger than {FILE_MAX} bytes")]
    TooLarge(PathBuf),
    /// Not TOML, an unknown or missing key, or a value of a wrong kind.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What, with the key.
        message: String,
    },
    /// A value out of its range.
    #[error("{file}:{line}: key `{key}` must be {rule}")]
    Value {
        /// Which file.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Which key.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// The line, from 1, that holds this byte.
fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// The key whose line holds this byte.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line_at(text, at) - 1)?.split_once('=')?;
    Some(key.trim()).filter(|key| !key.is_empty() && !key.starts_with('#'))
}

/// The line, from 1, that sets this key; 1 when none does.
fn line_of_key(text: &str, key: &str) -> usize {
    let sets = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    text.lines().position(sets).unwrap_or(0) + 1
}

/// The parser's message on one line, with the key in front unless it names it already.
fn one_line(message: &str, key: Option<&str>) -> String {
    let message = message.lines().collect::<Vec<_>>().join(", ");
    match key {
        Some(key) if !message.contains(&format!("`{key}`")) => format!("key `{key}`: {message}"),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "base = \"0123456789abcdef\"\n";

    fn error(text: &str) -> String {
        Config::parse(Path::new("m.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.toml");
        let mut config = Config::new("0123456789abcdef".into());
        config.accel = Accel::Kvm;
        config.cpus = 3;
        config.network = Network::Tap("tap0".into());
        config.border = Border::Colour([0xd9, 0x3a, 0x2b]);
        config.keep_copied = 0;
        config.autopause = 0;
        config.last_window = LastWindow::Stop;
        config.x11_apps = X11Apps::Enlarged;
        config.host_time_zone = false;
        config.tray = false;
        config.kernel_options = "quiet init=\"/bin/sh\"".into();
        config.write_new(&file).unwrap();
        assert_eq!(Config::read(&file).unwrap(), config);
        assert!(config.write_new(&file).is_err(), "an existing file is not replaced");
        assert_eq!(Config::read(&file).unwrap(), config);
        let foreign = folder.path().join("foreign.toml");
        let imported = Config::imported(Firmware::Uefi);
        imported.write_new(&foreign).unwrap();
        assert_eq!(Config::read(&foreign).unwrap(), imported);
        config.memory = 1;
        let bad = folder.path().join("bad.toml");
        assert!(matches!(config.write_new(&bad), Err(ConfigError::Value { key: "memory", .. })));
        assert!(!bad.exists());
    }

    #[test]
    fn defaults() {
        let config = Config::parse(Path::new("m.toml"), BASE).unwrap();
        assert_eq!(config, Config::new("0123456789abcdef".into()));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(
            error(&format!("# x\n{BASE}colour = 3\n")),
            "m.toml:3: unknown field `colour`, expected one of `engine`, `accel`, `cpus`, `memory`, `network`, `border`, `tray`, `keep_copied`, `autopause`, `last_window`, `x11_apps`, `host_time_zone`, `kernel_options`, `firmware`, `base`"
        );
        assert_eq!(error(&format!("{BASE}cpus = 0\n")), "m.toml:2: key `cpus` must be between 1 and 64");
        let text = error(&format!("{BASE}\nmemory = \"big\"\n"));
        assert!(text.starts_with("m.toml:3: key `memory`: invalid type: string"), "{text}");
        let text = error(&format!("{BASE}accel = \"magic\"\n"));
        assert!(text.starts_with("m.toml:2: key `accel`: unknown variant `magic`"), "{text}");
        for network in ["tap:", "tap:a/b", "bridge"] {
            let text = error(&format!("{BASE}network = \"{network}\"\n"));
            assert!(text.starts_with(&format!("m.toml:2: key `network`: \"{network}\" is not")), "{text}");
        }
        for border in ["#12345", "#1234567", "#+12345", "red", ""] {
            let text = error(&format!("{BASE}border = \"{border}\"\n"));
            assert!(text.starts_with(&format!("m.toml:2: key `border`: \"{border}\" is not")), "{text}");
        }
        for options in ["a\\nb".to_owned(), "a\u{e4}".to_owned(), "a".repeat(OPTIONS_MAX + 1)] {
            let text = error(&format!("{BASE}kernel_options = \"{options}\"\n"));
            assert!(text.starts_with("m.toml:2: key `kernel_options` must be printable"), "{text}");
        }
        let text = error(&format!("{BASE}cpus 4\n"));
        assert!(text.starts_with("m.toml:2: "), "{text}");
        assert!(error("").starts_with("m.toml:1: key `base` must be the id"), "{}", error(""));
        assert!(
            error(&format!("{BASE}firmware = \"uefi\"\n"))
                .starts_with("m.toml:1: key `base` must be left out")
        );
        assert!(error("firmware = \"coreboot\"\n").starts_with("m.toml:1: key `firmware`: unknown variant"));
        assert!(error("base = \"../../etc/passwd0\"").contains("key `base` must be"));
        assert!(error(&format!("{BASE}cpus = -1\n")).contains("key `cpus`"));
    }
}
