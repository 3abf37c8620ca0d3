//! Devices as they come: their drivers, loaded by a child, and buttons among them.

use super::{Source, word};
use crate::module::Heard;
use crate::module::drivers::{self, Child};
use crate::{button, sys};
use rustix::event::epoll::{self, EventFlags};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

const INPUT: &str = "/dev/input";
/// More power buttons than any machine has.
const MAX_BUTTONS: usize = 8;

/// See the module's text. While a child loads drivers, it hears of devices in PID 1's place.
pub(super) struct Devices {
    socket: Option<OwnedFd>,
    child: Option<i32>,
    /// Until the devices that are there at boot have their drivers.
    done: Option<OwnedFd>,
    /// Until the processor may have its own.
    go_on: Option<OwnedFd>,
    buttons: Vec<File>,
}

impl Devices {
    /// Begins to load drivers for what is there.
    pub(super) fn new(poll: &OwnedFd) -> Devices {
        let socket = sys::uevent_socket().ok();
        let child = socket.as_ref().and_then(|socket| drivers::at_boot(socket).ok());
        let (child, done, go_on) = match child {
            Some(Child { pid, done, go_on }) => (Some(pid), done, go_on),
            None => (None, None, None),
        };
        let devices = Devices { socket, child, done, go_on, buttons: Vec::new() };
        if let Some(done) = &devices.done {
            let _ = epoll::add(poll, done, word(Source::Drivers, 0), EventFlags::IN);
        }
        devices
    }

    /// True while devices that are there at boot lack their drivers.
    pub(super) fn are_missing(&self) -> bool {
        self.done.is_some()
    }

    /// What was there at boot is served, or will not be waited for.
    pub(super) fn no_longer_missing(&mut self, poll: &OwnedFd) {
        if let Some(done) = self.done.take() {
            let _ = epoll::delete(poll, &done);
        }
        self.look_for_buttons(poll);
    }

    /// Boot is over, or has better things to wait for.
    pub(super) fn go_on(&mut self) {
        self.go_on = None;
    }

    /// True until [`Devices::go_on`].
    pub(super) fn are_held_back(&self) -> bool {
        self.go_on.is_some()
    }

    /// True if a dead child was the one that loads drivers.
    pub(super) fn dead(&mut self, pid: i32, poll: &OwnedFd) -> bool {
        let ours = self.child == Some(pid);
        if ours {
            self.child = None;
            if let Some(socket) = &self.socket {
                let _ = epoll::add(poll, socket, word(Source::Devices, 0), EventFlags::IN);
            }
            // The child may have heard of one.
            self.look_for_buttons(poll);
        }
        ours
    }

    /// Something appeared.
    pub(super) fn heard(&mut self, poll: &OwnedFd) {
        let Some(socket) = &self.socket else { return };
        let heard = Heard::from(socket);
        if heard.aliases.is_empty() {
            if heard.input {
                self.look_for_buttons(poll);
            }
            return;
        }
        let _ = epoll::delete(poll, socket);
        match drivers::later(&heard.aliases, socket) {
            Ok(child) => self.child = Some(child.pid),
            Err(_) => drop(epoll::add(poll, socket, word(Source::Devices, 0), EventFlags::IN)),
        }
    }

    /// True if a power button was pressed.
    pub(super) fn pressed(&mut self, which: u32) -> bool {
        self.buttons.get_mut(which as usize).is_some_and(button::is_power)
    }

    fn look_for_buttons(&mut self, poll: &OwnedFd) {
        for button in button::open_all(Path::new(INPUT)) {
            let known = self.buttons.iter().any(|old| button::is_same(old, &button));
            if !known && self.buttons.len() < MAX_BUTTONS {
                let which = self.buttons.len() as u32;
                let _ = epoll::add(poll, &button, word(Source::Button, which), EventFlags::IN);
                self.buttons.push(button);
            }
        }
    }
}
