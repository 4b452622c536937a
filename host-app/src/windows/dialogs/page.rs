//! The text and the buttons of a window.

use egui::{Align, CentralPanel, Frame, Layout, Margin, RichText, Ui};

/// Logical pixels around the text.
const MARGIN: i8 = 18;
const TEXT: f32 = 14.0;

/// Shows what a window says and asks, and how much (of 1) is done of what takes its time; the choice that was clicked.
pub fn show(ui: &mut Ui, text: &str, part: Option<f32>, choices: &[&str]) -> Option<usize> {
    let mut clicked = None;
    let frame = Frame::central_panel(ui.style()).inner_margin(Margin::same(MARGIN));
    CentralPanel::default().frame(frame).show(ui, |ui| {
        ui.label(RichText::new(text).size(TEXT));
        if let Some(part) = part {
            ui.add(egui::ProgressBar::new(part));
        }
        ui.with_layout(Layout::right_to_left(Align::BOTTOM), |ui| {
            for (at, choice) in choices.iter().enumerate().rev() {
                if ui.button(RichText::new(*choice).size(TEXT)).clicked() {
                    clicked = Some(at);
                }
            }
        });
    });
    clicked
}
