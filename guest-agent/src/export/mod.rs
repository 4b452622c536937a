//! From an app's commit to a commit of the protocol. Window path, hops 2 and 3 of 6: state and damage are collected here
//! (hop 2), pixels copied into pool buffers (hop 3); hop 1 is [`crate::handlers::compositor`], hop 4 the host's session.
//!
//! [`flush`] runs once after each turn of the loop. What changed in one surface tree leaves as one transaction. A tree with a
//! surface that has two commits in flight, or no buffer that may be written, stays marked until the host releases one:
//! meanwhile newer buffers of the app replace older ones and damage accumulates.

pub mod copy;
pub mod damage;
pub mod slots;
pub mod state;

use inlay_protocol::display::{Child, Commit, Request, SurfaceId};
use inlay_protocol::framing::Message;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::compositor;

use crate::agent::Agent;
use crate::pool::recycler::{PoolBuffer, Recycler};
use crate::surface::{Surface, root_of};
use crate::x11;
use damage::Damage;
use slots::Slot;

/// Bytes that may wait for the host before nothing more is said.
const PATIENCE: usize = 1 << 20;

/// What was exported since the agent started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    /// Commits sent.
    pub commits: u64,
    /// Bytes of pixels copied.
    pub copied_bytes: u64,
}

/// Sends all that changed.
pub fn flush(agent: &mut Agent) {
    if !agent.display.is_up() || agent.display.waiting() > PATIENCE {
        return;
    }
    crate::windows::say_changed(agent);
    crate::x11::say_changed(agent);
    if !agent.recycler.is_ready() {
        return;
    }
    let mut roots: Vec<(SurfaceId, WlSurface)> = Vec::new();
    for id in agent.surfaces.take_dirty() {
        let Some(surface) = agent.surfaces.get(id) else { continue };
        let root = root_of(&surface.wl);
        if !roots.iter().any(|(_, known)| *known == root) {
            roots.push((id, root));
        }
    }
    for (id, root) in roots {
        if !send_tree(agent, &root) {
            agent.surfaces.mark(id);
        }
    }
    for buffer in agent.recycler.destroyed() {
        agent.send(&Request::DestroyBuffer { buffer });
    }
}

/// Sends what changed in one tree; `false` when it has to wait for a release.
fn send_tree(agent: &mut Agent, root: &WlSurface) -> bool {
    match compositor::get_role(root) {
        None => return true,
        // What the host shall not see, or not yet.
        Some(x11::ROLE) if !crate::surface::id_of(root).is_some_and(|id| agent.x11.is_said(id)) => {
            return true;
        }
        Some(_) => {}
    }
    let mut drafts = Vec::new();
    for (surface, stack) in state::tree(root) {
        let draft = draft(agent, &surface, &stack, surface == *root);
        if let Some(draft) = draft {
            let surface = agent.surfaces.get(draft.surface);
            let pixels = surface.is_some_and(|s| s.waiting.is_some());
            if surface.is_none_or(|s| !s.slots.may_send() || (pixels && s.slots.writable().is_none())) {
                return false;
            }
            drafts.push(draft);
        }
    }
    let mut commits = Vec::with_capacity(drafts.len());
    for draft in drafts {
        commits.extend(finish(agent, draft));
    }
    if !commits.is_empty() {
        agent.exported.commits += commits.len() as u64;
        send_commits(agent, commits);
    }
    true
}

/// The state of a surface if it has to be said, without pixels.
fn draft(agent: &mut Agent, wl: &WlSurface, stack: &[(WlSurface, Child)], is_root: bool) -> Option<Commit> {
    let surface = agent.surfaces.get(crate::surface::id_of(wl)?)?;
    if surface.view.is_none() && surface.last.is_none() {
        return None;
    }
    let mut commit = state::commit(wl, surface.view, stack)?;
    if is_root {
        let own = agent.windows.acked(surface.id);
        commit.acked = own.or_else(|| agent.x11.acked(surface.id, commit.size));
        commit.geometry = commit.geometry.or_else(|| agent.x11.geometry(surface.id, commit.size));
    }
    commit.wants_frame = !surface.callbacks.is_empty() || !surface.feedbacks.is_empty();
    let changed = surface.again || surface.waiting.is_some() || surface.asks_frame || {
        surface.last.as_ref().is_none_or(|last| {
            let shown = surface.view.is_some() == last.content.is_some();
            let same = Commit {
                number: last.number,
                content: last.content,
                wants_frame: last.wants_frame,
                ..commit.clone()
            };
            !shown || same != *last
        })
    };
    changed.then_some(commit)
}

/// Copies the pixels and fills the draft in.
fn finish(agent: &mut Agent, mut commit: Commit) -> Option<Commit> {
    let surface = agent.surfaces.get_mut(commit.surface)?;
    let damage = match take_pixels(&mut agent.recycler, surface) {
        Ok((damage, copied)) => {
            agent.exported.copied_bytes += copied;
            damage
        }
        Err(error) => {
            tracing::warn!(surface = surface.id.0, %error, "pixels of an app are dropped");
            Damage::default()
        }
    };
    let mut news = None;
    if surface.view.is_some()
        && let Some((content, buffer)) = surface.slots.current()
    {
        commit.content = Some(content);
        let repeated = surface.again || surface.last.as_ref().is_none_or(|l| l.content.is_none());
        commit.damage = if repeated { Damage::all(content.size) } else { damage }.rects().to_vec();
        if Recycler::announce(buffer) {
            news = Some(announcement(buffer));
        }
    }
    surface.number += 1;
    surface.feedbacks.sent(surface.number);
    commit.number = surface.number;
    surface.slots.sent(commit.number, commit.content.is_some());
    surface.again = false;
    surface.asks_frame = false;
    surface.known = true;
    surface.last = Some(Commit { damage: Vec::new(), ..commit.clone() });
    if let Some((request, fds)) = news {
        agent.display.send_with(&request, fds);
    }
    Some(commit)
}

/// The message that tells the host of a buffer, and what travels beside it.
fn announcement(buffer: &PoolBuffer) -> (Request, Vec<std::sync::Arc<std::os::fd::OwnedFd>>) {
    let memory = &buffer.memory;
    let request =
        Request::CreateBuffer { buffer: buffer.id, size: memory.len() as u64, backing: memory.backing };
    (request, memory.fd.iter().cloned().collect())
}

/// Copies the waiting buffer of a surface, if there is one; the damage of the next commit, and the bytes copied.
fn take_pixels(recycler: &mut Recycler, surface: &mut Surface) -> Result<(Damage, u64), copy::CopyError> {
    let mut damage = surface.damage.take();
    let Some(waiting) = surface.waiting.take() else { return Ok((damage, 0)) };
    let layout = waiting.layout;
    let Some(index) = surface.slots.writable() else { return Ok((damage, 0)) };
    damage.clip(layout.size);
    if surface.slots.current().is_none_or(|(c, _)| c.size != layout.size || c.format != layout.format) {
        damage = Damage::all(layout.size);
    }
    let slot = surface.slots.slot(index);
    let fits = |s: &Slot| {
        let len = s.buffer.memory.len();
        len >= layout.bytes() && len <= crate::pool::recycler::class(layout.bytes()) * 4
    };
    if !slot.as_ref().is_some_and(fits) {
        if let Some(old) = slot.take() {
            recycler.give(old.buffer);
        }
        let buffer =
            recycler.take(layout.bytes()).inspect_err(|error| tracing::error!(%error, "no pool buffer"));
        let buffer = buffer.map_err(|_| copy::CopyError::Bounds)?;
        *slot = Some(Slot { buffer, layout: None, missed: Damage::default() });
    }
    let Some(slot) = slot else { return Err(copy::CopyError::Bounds) };
    let mut missing = damage.clone();
    if slot.layout == Some(layout) {
        missing.add_all(&slot.missed);
    } else {
        missing = Damage::all(layout.size);
    }
    let copied = copy::copy(waiting.buffer(), &slot.buffer.memory, layout, &missing)?;
    surface.slots.written(index, layout, &damage);
    Ok((damage, copied))
}

/// Sends commits that belong together, as one transaction where a message holds them.
fn send_commits(agent: &mut Agent, commits: Vec<Commit>) {
    let request = Request::Transaction(commits);
    if request.check().is_ok() && agent.display.send(&request) {
        return;
    }
    let Request::Transaction(commits) = request else { return };
    for commit in commits {
        let (id, number) = (commit.surface, commit.number);
        let request = Request::Transaction(vec![commit]);
        if let Err(error) = request.check() {
            tracing::error!(surface = id.0, %error, "a commit breaks the protocol's limits and is dropped");
            released(agent, id, number);
        } else {
            agent.display.send(&request);
        }
    }
}

/// A surface is gone: its buffers come back, at once or when the host releases them.
pub fn retire(agent: &mut Agent, mut surface: Surface) {
    for (buffer, reader) in surface.slots.take_all() {
        match reader {
            Some(number) => agent.recycler.give_later(surface.id, number, buffer),
            None => agent.recycler.give(buffer),
        }
    }
}

/// The host released a commit.
pub fn released(agent: &mut Agent, id: SurfaceId, number: u64) {
    match agent.surfaces.get_mut(id) {
        Some(surface) => {
            surface.feedbacks.taken(number);
            if surface.slots.released(number) {
                agent.surfaces.mark(id);
            } else {
                tracing::warn!(surface = id.0, number, "the host releases a commit that is not in flight");
            }
        }
        None => agent.recycler.released(id, number),
    }
}

/// All of a surface (or of every one) is sent again with full damage.
pub fn refresh(agent: &mut Agent, id: Option<SurfaceId>) {
    match id {
        Some(id) => {
            if let Some(surface) = agent.surfaces.get_mut(id) {
                surface.again = true;
                agent.surfaces.mark(id);
            }
        }
        None => {
            agent.surfaces.iter_mut().for_each(|s| s.again = true);
            agent.surfaces.mark_all();
        }
    }
}
