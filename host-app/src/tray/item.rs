//! The item as ksni asks for it. Called on ksni's threads, which wait for nothing here.

use inlay_protocol::memory::{Agent, Phase};
use ksni::menu::{CheckmarkItem, StandardItem, SubMenu};
use ksni::{Category, Icon, MenuItem, ToolTip};

use super::acts::{Act, Acts};
use super::icon::{self, Mood};
use super::model::{Model, label};
use crate::paths::MachineName;

/// One machine's.
#[derive(Debug)]
pub(super) struct Item {
    name: MachineName,
    colour: [u8; 3],
    model: Model,
    acts: Acts,
}

impl Item {
    pub fn new(name: MachineName, colour: [u8; 3], model: Model, acts: Acts) -> Self {
        Self { name, colour, model, acts }
    }

    /// Shows something else from now on.
    pub fn show(&mut self, model: Model) {
        self.model = model;
    }

    fn act(&mut self, act: &Act) {
        tracing::debug!(?act, "chosen in the tray");
        self.acts.act(act.clone(), ksni::current_xdg_activation_token());
    }

    fn entry(text: &str, enabled: bool, act: Act) -> StandardItem<Self> {
        let activate = Box::new(move |item: &mut Self| item.act(&act));
        StandardItem { label: label(text), enabled, activate, ..StandardItem::default() }
    }
}

impl ksni::Tray for Item {
    fn id(&self) -> String {
        format!("inlay-{}", self.name)
    }

    fn category(&self) -> Category {
        Category::SystemServices
    }

    fn title(&self) -> String {
        self.name.to_string()
    }

    fn tool_tip(&self) -> ToolTip {
        ToolTip { title: format!("{}: {}", self.name, self.model.words()), ..ToolTip::default() }
    }

    fn icon_pixmap(&self) -> Vec<Icon> {
        let state = self.model.seen.state;
        let mood = match (state.phase, state.agent) {
            (Phase::Paused, _) => Mood::Paused,
            (Phase::Running, Agent::Ready) => Mood::Runs,
            _ => Mood::Between,
        };
        icon::icons(self.colour, mood)
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        if self.model.seen.state.phase != Phase::Stopping {
            self.act(&Act::Apps);
        }
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        let (state, together) = (self.model.seen.state, self.model.seen.together);
        let on = state.phase != Phase::Stopping;
        let head = format!("{}: {}", self.name, self.model.words());
        let head = StandardItem { label: label(&head), enabled: false, ..StandardItem::default() };
        let mut menu: Vec<MenuItem<Self>> = vec![head.into(), MenuItem::Separator];
        menu.extend(self.model.apps.iter().map(|app| {
            let entry = Self::entry(&app.name, on, Act::Open(app.id.clone()));
            StandardItem { icon_data: app.icon.clone(), ..entry }.into()
        }));
        menu.push(Self::entry("All apps…", on, Act::Apps).into());
        if !self.model.folders.is_empty() {
            let folders = self.model.folders.iter();
            let submenu =
                folders.map(|f| Self::entry(&f.name, true, Act::Folder(f.path.clone())).into()).collect();
            menu.push(SubMenu { label: "Shared folders".into(), submenu, ..SubMenu::default() }.into());
        }
        menu.push(MenuItem::Separator);
        menu.push(Self::entry("Whole screen", on, Act::Screen).into());
        let runs = state.phase == Phase::Running && state.agent == Agent::Ready;
        let one = CheckmarkItem {
            label: "All windows in one".into(),
            enabled: on && (runs || together),
            checked: together,
            activate: Box::new(move |item: &mut Self| item.act(&Act::Together(!together))),
            ..CheckmarkItem::default()
        };
        menu.push(one.into());
        menu.push(MenuItem::Separator);
        if let Some(connected) = state.network {
            let network = CheckmarkItem {
                label: "Network".into(),
                enabled: on,
                checked: connected,
                activate: Box::new(move |item: &mut Self| item.act(&Act::Network(!connected))),
                ..CheckmarkItem::default()
            };
            menu.push(network.into());
        }
        menu.push(match state.phase {
            Phase::Paused => Self::entry("Resume", true, Act::Resume).into(),
            phase => Self::entry("Pause", phase == Phase::Running, Act::Pause).into(),
        });
        menu.push(Self::entry("Stop", on, Act::Stop).into());
        menu
    }

    fn watcher_online(&self) {
        tracing::debug!("the desktop has a tray");
    }

    fn watcher_offline(&self, reason: ksni::OfflineReason) -> bool {
        tracing::debug!(?reason, "the desktop has no tray");
        // It may come, or come back.
        true
    }
}
