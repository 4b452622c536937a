//! Windows of the host's own: one says a thing and goes when it is closed, another asks. The processor draws them, so they are there
//! before a graphics device is; no guest can draw, cover the text of, or click them.

mod page;

use std::time::{Duration, Instant};

use inlay_protocol::display::{ContentType, Decoration, SurfaceId, WindowKind};
use inlay_protocol::geometry::Size;
use inlay_protocol::input::InputEvent;

use super::gate::Answer;
use super::paint::{Page, Painter};
use super::presenter::desk;
use super::presenter::{Dragged, Ended, HostEvent, Look, Pixels, Presenter, open_plain};
use super::screen;
use super::window::Told;
use crate::files::copies::Shown;

/// Ids of these windows begin here; the guest's end before.
pub const FIRST: u32 = 1 << 31;

/// Whether a window is one of these: what a guest shows is not, nor is its screen, nor what has all of its windows.
#[must_use]
pub fn is_own(window: SurfaceId) -> bool {
    window.0 >= FIRST && window != screen::WINDOW && window != desk::WINDOW
}

/// A notice follows the one before after this time at the earliest; the log has them all.
const BETWEEN_NOTICES: Duration = Duration::from_secs(10);
/// Questions that may be open at once.
const QUESTIONS: usize = 16;
/// A window takes no input before the user can have seen it.
const UNSEEN: Duration = Duration::from_millis(500);
const WIDTH: u32 = 460;
/// The menu's buttons are next to each other.
const MENU_WIDTH: u32 = 700;
/// Characters that fit into a line of this width, at least.
const LINE: usize = 52;
/// What the buttons of a question about an app that hangs say; the first is what happens when it is closed.
const FORCE: [&str; 2] = ["Wait", "Force it to close"];
/// What the buttons say where an agent is missing; the first is what happens when the window is closed.
const OFFER: [&str; 2] = ["Wait", "Show the whole screen"];
/// What the button of an app that is being opened says.
const CANCEL: [&str; 1] = ["Cancel"];
/// How long an app that runs may take until its window is there; then it may be one that has none.
const NO_WINDOW: Duration = Duration::from_secs(20);
/// What the buttons of a question about a permission say, and mean.
const PERMIT: [(&str, Answer); 4] =
    [("No", Answer::No), ("Yes, once", Answer::Once), ("Always", Answer::Always), ("Never", Answer::Never)];
/// Evdev codes of Escape, Return and Enter: they take the first choice.
const WAITING: [u32; 3] = [1, 28, 96];
const ESCAPE: [u32; 1] = [1];

/// What a window is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// It only says something.
    Notice,
    /// Whether the app of this toplevel is to be ended.
    App(SurfaceId),
    /// Whether something may cross: the number of the question.
    Permission(u64),
    /// An app that is being opened: the number of the opening.
    Starting(u64),
    /// Files that are being copied out of the guest: the number of the copy.
    Copying(u64),
    /// What is to be done with the guest's screen.
    Menu,
    /// The guest's screen is offered, as its agent is missing.
    Missing,
}

impl About {
    fn choices(self) -> Vec<&'static str> {
        match self {
            Self::Notice => Vec::new(),
            Self::App(_) => FORCE.to_vec(),
            Self::Permission(_) => PERMIT.map(|(text, _)| text).to_vec(),
            Self::Starting(_) | Self::Copying(_) => CANCEL.to_vec(),
            Self::Menu => screen::MENU.to_vec(),
            Self::Missing => OFFER.to_vec(),
        }
    }

    /// Keys that take the first choice.
    fn keys(self) -> &'static [u32] {
        // It comes while the user does something else.
        if matches!(self, Self::Copying(_) | Self::Missing) { &ESCAPE } else { &WAITING }
    }

    /// What the desktop's other parts hear of the choice.
    fn answer(self, choice: usize) -> Option<HostEvent> {
        match self {
            Self::Notice | Self::Starting(_) | Self::Copying(_) | Self::Missing => None,
            Self::Menu => Some(HostEvent::Menu { choice }),
            Self::App(window) => Some(HostEvent::Answer { window, force: choice == 1 }),
            Self::Permission(question) => {
                let answer = PERMIT.get(choice).map_or(Answer::No, |(_, answer)| *answer);
                Some(HostEvent::Permitted { question, answer })
            }
        }
    }
}

/// One window.
#[derive(Debug)]
struct Dialog {
    id: SurfaceId,
    about: About,
    /// The toplevel that it stays above.
    over: Option<SurfaceId>,
    text: String,
    /// How much of it is done, of 1.
    part: Option<f32>,
    size: Size,
    told: Told,
    opened: Option<Instant>,
    target: Option<Box<dyn Pixels>>,
    events: Vec<egui::Event>,
    pointer: egui::Pos2,
    dirty: bool,
    /// The desktop is to say when the next frame may be drawn.
    waits: bool,
    /// It is over: with this choice.
    ends: Option<usize>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Dialogs {
    dialogs: Vec<Dialog>,
    painter: Painter,
    opened: u32,
    pointed: Option<SurfaceId>,
    focused: Option<SurfaceId>,
    last_notice: Option<Instant>,
    openings: Vec<Opening>,
    /// Copies of files that the user does not want.
    unwanted: Vec<u64>,
    /// Whether the screen that was offered is wanted.
    offered: Option<bool>,
    toplevels: usize,
}

/// An app that is being opened.
#[derive(Debug)]
struct Opening {
    number: u64,
    /// It runs: its window is waited for until then.
    runs: Option<Instant>,
    cancelled: bool,
}

impl Dialogs {
    /// Says that an app is being opened, and how far that has come: until its window is there, or it is over in another way.
    pub fn opening(&mut self, number: u64, text: &str) {
        let about = About::Starting(number);
        if let Some(dialog) = self.dialogs.iter_mut().find(|dialog| dialog.about == about) {
            dialog.dirty |= dialog.text != text;
            text.clone_into(&mut dialog.text);
        } else if !self.openings.iter().any(|opening| opening.number == number) {
            self.openings.push(Opening { number, runs: None, cancelled: false });
            self.add(text, about, None);
        }
    }

    /// It runs; its window will come.
    pub fn opened(&mut self, number: u64) {
        if let Some(opening) = self.openings.iter_mut().find(|opening| opening.number == number) {
            opening.runs = Some(Instant::now() + NO_WINDOW);
        }
    }

    /// Whoever opens it is gone; whether it runs or not.
    pub fn opener_gone(&mut self, number: u64) {
        let runs = |opening: &Opening| opening.runs.is_some();
        if self.openings.iter().any(|opening| opening.number == number && !runs(opening)) {
            self.end_opening(number);
        }
    }

    /// Whether the user does not want it any more; asked once.
    pub fn is_cancelled(&mut self, number: u64) -> bool {
        let found = self.openings.iter_mut().find(|opening| opening.number == number);
        found.is_some_and(|opening| std::mem::take(&mut opening.cancelled))
    }

    /// So many toplevels of the guest are open: with one more, what was being opened is there.
    pub fn toplevels(&mut self, open: usize, now: Instant) {
        let more = open > std::mem::replace(&mut self.toplevels, open);
        let over = |opening: &&Opening| opening.runs.is_some_and(|until| more || until <= now);
        for number in self.openings.iter().filter(over).map(|opening| opening.number).collect::<Vec<_>>() {
            self.end_opening(number);
        }
    }

    /// When to look again though nothing came.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.openings.iter().filter_map(|opening| opening.runs).min()
    }

    fn end_opening(&mut self, number: u64) {
        self.openings.retain(|opening| opening.number != number);
        self.take_back(About::Starting(number));
    }

    /// These copies of files take their time: each has a window while it does. Those that the user does not want any more.
    pub fn copying(&mut self, copies: &[Shown]) -> Vec<u64> {
        for about in self.dialogs.iter().map(|d| d.about).collect::<Vec<_>>() {
            if matches!(about, About::Copying(number) if !copies.iter().any(|copy| copy.number == number)) {
                self.take_back(about);
            }
        }
        for Shown { number, text, part } in copies {
            if self.unwanted.contains(number) {
                continue;
            }
            let about = About::Copying(*number);
            if !self.dialogs.iter().any(|dialog| dialog.about == about) {
                // Numbers become longer.
                self.add(&format!("{text:<width$}", width = 2 * LINE), about, None);
            }
            for dialog in self.dialogs.iter_mut().filter(|dialog| dialog.about == about) {
                dialog.dirty |= dialog.text != *text || dialog.part != Some(*part);
                text.clone_into(&mut dialog.text);
                dialog.part = Some(*part);
            }
        }
        self.unwanted.retain(|number| copies.iter().any(|copy| copy.number == *number));
        self.unwanted.clone()
    }

    /// Tells the user something that no window of the guest can say, in the place of what was told before: a guest must not
    /// cover the desktop with it.
    pub fn say(&mut self, text: &str) {
        tracing::warn!("{text}");
        let now = Instant::now();
        if self.last_notice.is_none_or(|last| now.duration_since(last) >= BETWEEN_NOTICES) {
            self.last_notice = Some(now);
            self.take_back(About::Notice);
            self.add(text, About::Notice, None);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dialogs.is_empty()
    }

    /// Asks the user whether the app of a toplevel is to be ended by force: [`HostEvent::Answer`] tells.
    pub fn ask(&mut self, window: SurfaceId, text: &str) {
        if self.dialogs.iter().filter(|d| matches!(d.about, About::App(_))).count() < QUESTIONS {
            self.stop(window);
            self.add(text, About::App(window), Some(window));
        }
    }

    /// Asks the user whether something may cross, above a toplevel: [`HostEvent::Permitted`] tells. There is one such question at
    /// a time.
    pub fn permit(&mut self, question: u64, text: &str, over: SurfaceId) {
        self.add(text, About::Permission(question), Some(over));
    }

    /// Offers what can be done with the guest's screen, above its window: [`HostEvent::Menu`] tells. There is one.
    pub fn menu(&mut self, over: SurfaceId, text: &str) {
        if !self.dialogs.iter().any(|d| d.about == About::Menu && d.ends.is_none()) {
            self.add(text, About::Menu, Some(over));
        }
    }

    /// Takes the menu back: its window closes.
    pub fn menu_no_more(&mut self) {
        self.take_back(About::Menu);
    }

    /// Offers the screen of a machine whose agent is missing: [`Dialogs::offer_answered`] tells.
    pub fn offer_screen(&mut self, machine: &str) {
        let text = format!(
            "The agent of {machine} does not answer, so no app can be opened. Its whole screen shows what the guest does."
        );
        if !self.dialogs.iter().any(|d| d.about == About::Missing && d.ends.is_none()) {
            self.add(&text, About::Missing, None);
        }
    }

    /// Takes that back.
    pub fn offer_no_more(&mut self) {
        self.take_back(About::Missing);
    }

    /// Whether the user wants to see it, once they said so.
    pub fn offer_answered(&mut self) -> Option<bool> {
        self.offered.take()
    }

    /// Whether a question about a permission is open: nothing of the guest may be above it.
    #[must_use]
    pub fn asks_permission(&self) -> bool {
        self.dialogs.iter().any(|d| matches!(d.about, About::Permission(_)) && d.ends.is_none())
    }

    /// Takes the question about a toplevel back.
    pub fn stop(&mut self, window: SurfaceId) {
        self.take_back(About::App(window));
    }

    /// Takes the question about a permission back.
    pub fn permit_no_more(&mut self) {
        let open = self.dialogs.iter().map(|d| d.about).filter(|about| matches!(about, About::Permission(_)));
        for about in open.collect::<Vec<_>>() {
            self.take_back(about);
        }
    }

    fn take_back(&mut self, about: About) {
        for dialog in self.dialogs.iter_mut().filter(|d| d.about == about) {
            (dialog.about, dialog.ends) = (About::Notice, Some(0));
        }
    }

    fn add(&mut self, text: &str, about: About, over: Option<SurfaceId>) {
        let id = SurfaceId(FIRST + self.opened);
        self.opened = (self.opened + 1) % (FIRST - 1);
        let lines = u32::try_from(text.len().div_ceil(LINE)).unwrap_or(1).clamp(1, 12);
        let below = match about {
            About::Notice => 0,
            About::Copying(_) => 70,
            _ => 44,
        };
        let height = 44 + 20 * lines + below;
        self.dialogs.push(Dialog {
            id,
            about,
            over,
            text: text.to_owned(),
            part: None,
            size: Size::new(if about == About::Menu { MENU_WIDTH } else { WIDTH }, height),
            told: Told::default(),
            opened: None,
            target: None,
            events: Vec::new(),
            pointer: egui::Pos2::ZERO,
            dirty: true,
            waits: false,
            ends: None,
        });
    }

    fn get(&mut self, id: SurfaceId) -> Option<&mut Dialog> {
        self.dialogs.iter_mut().find(|dialog| dialog.id == id)
    }

    /// Takes what the desktop tells of these windows; what is left is for the guest's.
    pub fn take(&mut self, event: HostEvent) -> Option<HostEvent> {
        let own = is_own;
        match event {
            HostEvent::Configured { window, size, .. } if own(window) => {
                if let Some(dialog) = self.get(window) {
                    dialog.told = Told::Decided;
                    if !size.is_empty() {
                        dialog.size = size;
                    }
                    dialog.dirty = true;
                }
            }
            HostEvent::Ready { window } if own(window) => {
                if let Some(dialog) = self.get(window) {
                    dialog.waits = false;
                }
            }
            HostEvent::Exposed { window } | HostEvent::Visible { window, .. } if own(window) => {
                if let Some(dialog) = self.get(window) {
                    dialog.dirty = true;
                }
            }
            HostEvent::Close { window } | HostEvent::Destroyed { window } if own(window) => {
                if let Some(dialog) = self.get(window) {
                    dialog.ends = Some(0);
                }
            }
            HostEvent::Moved { window, .. } | HostEvent::Drag(Dragged::Enter { window, .. })
                if own(window) => {}
            HostEvent::Focus { window, keys, modifiers } => {
                self.focused = window.filter(|window| own(*window));
                let window = window.filter(|window| !own(*window));
                return Some(HostEvent::Focus { window, keys, modifiers });
            }
            HostEvent::Input(input) => return self.input(input).map(HostEvent::Input),
            other => return Some(other),
        }
        None
    }

    #[expect(clippy::cast_possible_truncation, reason = "places in a small window")]
    fn input(&mut self, input: InputEvent) -> Option<InputEvent> {
        if let InputEvent::PointerEnter { surface, .. } = &input {
            self.pointed = Some(*surface).filter(|surface| is_own(*surface));
        }
        let (pointed, focused) = (self.pointed, self.focused);
        match input {
            InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. }
                if pointed.is_some() =>
            {
                if let Some(dialog) = pointed.and_then(|id| self.get(id)) {
                    dialog.pointer = egui::pos2(x as f32, y as f32);
                    dialog.events.push(egui::Event::PointerMoved(dialog.pointer));
                }
            }
            InputEvent::PointerLeave if pointed.is_some() => {
                self.pointed = None;
                if let Some(dialog) = pointed.and_then(|id| self.get(id)) {
                    dialog.events.push(egui::Event::PointerGone);
                }
            }
            InputEvent::PointerButton { button, pressed, .. } if pointed.is_some() => {
                if let Some(dialog) = pointed.and_then(|id| self.get(id)) {
                    dialog.button(button, pressed);
                }
            }
            InputEvent::PointerAxis { .. } if pointed.is_some() => {}
            InputEvent::Key { key, pressed, .. } if focused.is_some() => {
                if let Some(dialog) = focused.and_then(|id| self.get(id))
                    && pressed
                    && dialog.was_seen()
                    && dialog.about.keys().contains(&key)
                {
                    dialog.ends = Some(0);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// Opens what is new, draws what changed and closes what is over; the user's answers.
    pub fn turn(&mut self, presenter: &mut dyn Presenter) -> Vec<HostEvent> {
        let mut answers = Vec::new();
        for dialog in &mut self.dialogs {
            dialog.open(presenter);
            if dialog.target.is_some() && !dialog.waits && (dialog.dirty || !dialog.events.is_empty()) {
                dialog.draw(&mut self.painter, presenter);
            }
            answers.extend(dialog.ends.and_then(|choice| dialog.about.answer(choice)));
            if let (Some(choice), About::Missing) = (dialog.ends, dialog.about) {
                self.offered = Some(choice == 1);
            }
            if let (Some(_), About::Copying(number)) = (dialog.ends, dialog.about) {
                self.unwanted.push(number);
            }
            if let (Some(_), About::Starting(number)) = (dialog.ends, dialog.about) {
                // One that runs already is not ended by this: its window comes all the same.
                self.openings.retain(|opening| opening.number != number || opening.runs.is_none());
                for opening in self.openings.iter_mut().filter(|opening| opening.number == number) {
                    opening.cancelled = true;
                }
            }
        }
        let over = self.dialogs.extract_if(.., |dialog| dialog.ends.is_some());
        for dialog in over {
            drop(dialog.target);
            if dialog.told != Told::Nothing {
                presenter.close(dialog.id);
            }
            self.pointed = self.pointed.filter(|id| *id != dialog.id);
            self.focused = self.focused.filter(|id| *id != dialog.id);
        }
        answers
    }
}

impl Dialog {
    fn was_seen(&self) -> bool {
        self.opened.is_some_and(|at| at.elapsed() >= UNSEEN)
    }

    fn look(&self) -> Look {
        Look {
            title: "Inlay".to_owned(),
            class: "inlay".to_owned(),
            parent: self.over,
            min_size: self.size,
            max_size: self.size,
            base_size: Size::default(),
            increment: Size::default(),
            decoration: Decoration::ServerSide,
            kind: WindowKind::Dialog,
            modal: false,
            urgent: false,
            // A notice takes the focus from nobody, nor does what comes while the user does something else; a question follows what the user just did.
            no_focus: matches!(self.about, About::Notice | About::Copying(_) | About::Missing),
            keeps_awake: false,
            inhibits_shortcuts: false,
            content_type: ContentType::None,
            place: None,
        }
    }

    fn open(&mut self, presenter: &mut dyn Presenter) {
        if self.target.is_some() || self.ends.is_some() {
            return;
        }
        let look = self.look();
        match open_plain(presenter, self.id, &mut self.told, &look, self.size) {
            Ok(Some(target)) => {
                self.target = Some(target);
                self.opened = Some(Instant::now());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("a window of the host's own cannot be opened: {error:#}");
                self.ends = Some(0);
            }
        }
    }

    fn button(&mut self, button: u32, pressed: bool) {
        const BTN_LEFT: u32 = 0x110;
        if button != BTN_LEFT || !self.was_seen() {
            return;
        }
        if self.about == About::Notice {
            // What it says was read.
            self.ends = self.ends.or((!pressed).then_some(0));
        }
        let (pos, button) = (self.pointer, egui::PointerButton::Primary);
        let modifiers = egui::Modifiers::NONE;
        self.events.push(egui::Event::PointerButton { pos, button, pressed, modifiers });
    }

    fn draw(&mut self, painter: &mut Painter, presenter: &mut dyn Presenter) {
        let Some(pixels) = presenter.begin_frame(self.id, self.size, true) else { return };
        let choices = self.about.choices();
        let scale = presenter.scale(self.id) as f32 / 120.0;
        let events = std::mem::take(&mut self.events);
        let page = Page { id: self.id.0, size: self.size, scale };
        let mut clicked = None;
        let frame = painter.lay_out(page, events, |ui| {
            clicked = page::show(ui, &self.text, self.part, &choices).or(clicked)
        });
        self.ends = self.ends.or(clicked);
        let Some(target) = &mut self.target else { return };
        let shown = target.show(pixels, &painter.paint(frame, pixels, scale));
        if let Err(error) = &shown {
            tracing::warn!("a window of the host's own cannot be drawn: {error:#}");
        }
        self.dirty = false;
        let ended = if shown.is_ok() { Ended::Presented } else { Ended::Failed };
        self.waits = presenter.end_frame(self.id, ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::presenter::headless::Headless;
    use inlay_protocol::input::Modifiers;

    const APP: SurfaceId = SurfaceId(7);

    struct Bench {
        dialogs: Dialogs,
        presenter: Headless,
    }

    impl Bench {
        fn new() -> Self {
            Self { dialogs: Dialogs::default(), presenter: Headless::default() }
        }

        fn turn(&mut self) -> Vec<HostEvent> {
            self.dialogs.turn(&mut self.presenter)
        }

        fn input(&mut self, input: InputEvent) -> Option<HostEvent> {
            self.dialogs.take(HostEvent::Input(input))
        }

        /// Clicks into the newest window, from its lower right corner.
        fn click(&mut self, left: f64, up: f64) -> Vec<HostEvent> {
            let dialog = self.dialogs.dialogs.last().unwrap();
            let (surface, size) = (dialog.id, dialog.size);
            let (x, y) = (f64::from(size.width) - left, f64::from(size.height) - up);
            assert_eq!(self.input(InputEvent::PointerEnter { surface, x, y }), None);
            let mut answers = self.turn();
            for pressed in [true, false] {
                let button = InputEvent::PointerButton { time_ms: 0, button: 0x110, pressed };
                assert_eq!(self.input(button), None);
                answers.extend(self.turn());
            }
            answers
        }

        fn seen(&mut self) {
            let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
            self.dialogs.dialogs.iter_mut().for_each(|d| d.opened = Some(long_ago));
        }
    }

    #[test]
    fn only_a_click_on_the_button_forces_and_none_before_it_was_seen() {
        let mut b = Bench::new();
        b.dialogs.ask(APP, "\"word\" of guest does not answer.");
        assert!(b.turn().is_empty());
        assert!(b.click(40.0, 30.0).is_empty(), "too early");
        b.seen();
        assert!(b.click(40.0, 100.0).is_empty());
        assert_eq!(b.click(40.0, 30.0), [HostEvent::Answer { window: APP, force: true }]);
        assert!(b.dialogs.dialogs.is_empty());

        b.dialogs.ask(APP, "again");
        b.turn();
        b.seen();
        // Left of the other button.
        assert_eq!(b.click(160.0, 30.0), [HostEvent::Answer { window: APP, force: false }]);
        let motion = InputEvent::PointerMotion { time_ms: 0, x: 1.0, y: 1.0 };
        assert_eq!(b.input(motion.clone()), Some(HostEvent::Input(motion)), "it is gone");
    }

    #[test]
    fn a_permission_is_given_by_its_button_only() {
        // From the right: never, always, once, no.
        for (left, answer) in [(40.0, Answer::Never), (110.0, Answer::Always), (190.0, Answer::Once)] {
            let mut b = Bench::new();
            b.dialogs.permit(3, "\"word\" of guest wants to paste text that you copied elsewhere.", APP);
            assert!(b.dialogs.asks_permission());
            b.turn();
            assert!(b.click(left, 30.0).is_empty(), "too early");
            b.seen();
            assert_eq!(b.click(left, 30.0), [HostEvent::Permitted { question: 3, answer }]);
            assert!(!b.dialogs.asks_permission());
        }
        let mut b = Bench::new();
        b.dialogs.permit(4, "?", APP);
        b.turn();
        let window = b.dialogs.dialogs[0].id;
        b.dialogs.take(HostEvent::Close { window });
        assert_eq!(b.turn(), [HostEvent::Permitted { question: 4, answer: Answer::No }]);
    }

    #[test]
    fn the_screen_that_is_offered_is_wanted_by_its_button_only() {
        let mut b = Bench::new();
        let answer = |b: &mut Bench, left| {
            b.dialogs.offer_screen("work");
            b.dialogs.offer_screen("work");
            assert_eq!(b.dialogs.dialogs.len(), 1, "one window");
            b.turn();
            assert!(b.click(left, 30.0).is_empty() && b.dialogs.offer_answered().is_none(), "too early");
            b.seen();
            b.click(left, 30.0);
            (b.dialogs.offer_answered(), b.dialogs.offer_answered())
        };
        assert_eq!(answer(&mut b, 80.0), (Some(true), None));
        assert_eq!(answer(&mut b, 210.0), (Some(false), None));
        // Closed by the desktop, and taken back.
        b.dialogs.offer_screen("work");
        b.turn();
        let window = b.dialogs.dialogs[0].id;
        b.dialogs.take(HostEvent::Close { window });
        b.turn();
        assert_eq!(b.dialogs.offer_answered(), Some(false));
        b.dialogs.offer_screen("work");
        b.turn();
        b.dialogs.offer_no_more();
        b.turn();
        assert!(b.dialogs.is_empty() && b.dialogs.offer_answered().is_none());
    }

    #[test]
    fn keys_wait_and_are_nobody_elses() {
        let mut b = Bench::new();
        b.dialogs.ask(APP, "?");
        b.turn();
        let (keys, modifiers) = (Vec::new(), Modifiers::default());
        let focus = |window| HostEvent::Focus { window, keys: keys.clone(), modifiers };
        let own = b.dialogs.dialogs[0].id;
        assert_eq!(b.dialogs.take(focus(Some(own))), Some(focus(None)));
        let key = |key| InputEvent::Key { time_ms: 0, key, pressed: true };
        assert_eq!(b.input(key(1)), None);
        assert!(b.turn().is_empty(), "too early");
        b.seen();
        assert_eq!(b.input(key(30)), None);
        assert!(b.turn().is_empty());
        assert_eq!(b.input(key(28)), None);
        assert_eq!(b.turn(), [HostEvent::Answer { window: APP, force: false }]);
        assert_eq!(b.dialogs.take(focus(Some(APP))), Some(focus(Some(APP))));
        assert!(b.input(key(28)).is_some());
    }

    #[test]
    fn questions_are_taken_back_and_bounded_and_notices_are_rare() {
        let mut b = Bench::new();
        for n in 1..100 {
            b.dialogs.ask(SurfaceId(n), "?");
            b.dialogs.ask(SurfaceId(1), "?");
            b.dialogs.say("!");
        }
        b.turn();
        assert_eq!(b.dialogs.dialogs.iter().filter(|d| d.about != About::Notice).count(), QUESTIONS);
        assert_eq!(b.dialogs.dialogs.len(), QUESTIONS + 1);
        b.dialogs.stop(SurfaceId(1));
        assert!(b.turn().is_empty(), "nobody answered");
        assert_eq!(b.dialogs.dialogs.len(), QUESTIONS);
        // The desktop closes one.
        let window = b.dialogs.dialogs.last().unwrap().id;
        assert_eq!(b.dialogs.take(HostEvent::Close { window }), None);
        b.turn();
        assert_eq!(b.dialogs.dialogs.len(), QUESTIONS - 1);
    }

    #[test]
    fn a_copy_is_shown_while_it_lasts_and_ends_by_its_button_or_escape() {
        let mut b = Bench::new();
        let copy = |number, part| Shown { number, text: "Copying files".to_owned(), part };
        assert!(b.dialogs.copying(&[copy(1, 0.1), copy(2, 0.2)]).is_empty());
        b.turn();
        assert_eq!(b.dialogs.dialogs.len(), 2);
        assert!(b.dialogs.copying(&[copy(2, 0.5)]).is_empty());
        b.turn();
        assert_eq!(b.dialogs.dialogs.len(), 1);
        b.seen();
        let own = b.dialogs.dialogs[0].id;
        let (keys, modifiers) = (Vec::new(), Modifiers::default());
        b.dialogs.take(HostEvent::Focus { window: Some(own), keys, modifiers });
        let key = |key| InputEvent::Key { time_ms: 0, key, pressed: true };
        // Return was meant for another window.
        assert_eq!(b.input(key(28)), None);
        b.turn();
        assert!(b.dialogs.copying(&[copy(2, 0.6)]).is_empty());
        b.input(key(1));
        b.turn();
        assert_eq!(b.dialogs.copying(&[copy(2, 0.6)]), [2]);
        b.turn();
        assert!(b.dialogs.dialogs.is_empty(), "it is not shown again");
        assert!(b.dialogs.copying(&[]).is_empty());
        b.dialogs.copying(&[copy(3, 0.0)]);
        b.turn();
        b.seen();
        b.click(40.0, 30.0);
        assert_eq!(b.dialogs.copying(&[copy(3, 0.0)]), [3]);
    }

    #[test]
    fn an_opening_is_shown_until_its_window_is_there_and_can_be_cancelled() {
        let mut bench = Bench::new();
        bench.dialogs.opening(1, "Files");
        bench.dialogs.opening(1, "Files, later");
        bench.turn();
        assert_eq!(bench.dialogs.dialogs.len(), 1);
        // A window of another app is not awaited: this one does not run yet.
        bench.dialogs.toplevels(1, Instant::now());
        bench.turn();
        assert_eq!(bench.dialogs.dialogs.len(), 1);
        bench.dialogs.opened(1);
        bench.dialogs.opener_gone(1);
        bench.turn();
        assert_eq!(bench.dialogs.dialogs.len(), 1, "the app runs: its window is awaited");
        bench.dialogs.toplevels(2, Instant::now());
        bench.turn();
        assert!(bench.dialogs.dialogs.is_empty());
        // One that shows nothing within its time; one whose opener ends.
        bench.dialogs.opening(2, "Service");
        bench.dialogs.opened(2);
        assert!(bench.dialogs.due().is_some());
        bench.dialogs.toplevels(2, Instant::now() + NO_WINDOW);
        bench.dialogs.opening(3, "Nothing");
        bench.dialogs.opener_gone(3);
        bench.turn();
        assert!(bench.dialogs.dialogs.is_empty() && bench.dialogs.due().is_none());
        // The user does not want it.
        bench.dialogs.opening(4, "Files");
        bench.turn();
        bench.seen();
        assert!(!bench.dialogs.is_cancelled(4));
        bench.click(40.0, 30.0);
        assert!(bench.dialogs.is_cancelled(4) && !bench.dialogs.is_cancelled(4));
        bench.dialogs.opening(4, "Files");
        bench.turn();
        assert!(bench.dialogs.dialogs.is_empty(), "it is not shown again");
    }
}
