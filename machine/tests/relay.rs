//! A terminal joined to a machine's console.

mod guest;

use kit_machine::console::{Left, Relay, relay};
use kit_machine::{Exit, Home, Monitor, Running};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// A machine, and a terminal that a relay may have. Whoever sits at the terminal holds `keyboard`.
struct Desk {
    running: Running,
    keyboard: File,
    terminal: File,
    _dir: TempDir,
}

impl Desk {
    /// None where there is no QEMU.
    fn new() -> Option<Desk> {
        if !guest::has_qemu() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let machine = guest::machine("n", dir.path());
        let home = Home::at(dir.path().join("machines")).unwrap();
        let running = home.launch(&machine, &Monitor::Qemu(Default::default())).unwrap();
        running.wait_for("guest: hello", MINUTE).unwrap();

        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let terminal = ptsname(&keyboard, Vec::new()).unwrap();
        let terminal = File::options().read(true).write(true).open(terminal.to_str().unwrap()).unwrap();
        Some(Desk { running, keyboard: keyboard.into(), terminal, _dir: dir })
    }

    fn relay(&self, cancel: Option<BorrowedFd<'_>>) -> Left {
        let mut console = self.running.console();
        console.seek_to_last(1);
        let (input, output) = (self.terminal.as_fd(), self.terminal.as_fd());
        relay(&mut console, Relay { input, output, escape: Relay::ESCAPE, cancel }).unwrap()
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Reads the screen until it shows that.
    fn see(&self, wanted: &str) -> String {
        let mut screen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&screen).ends_with(wanted) {
            (&self.keyboard).read_exact(&mut byte).unwrap();
            screen.push(byte[0]);
        }
        String::from_utf8(screen).unwrap()
    }

    fn type_keys(&self, keys: &[u8]) {
        (&self.keyboard).write_all(keys).unwrap();
    }
}

#[test]
fn keys_go_to_the_guest_and_its_output_to_the_screen_until_the_escape() {
    let Some(desk) = Desk::new() else { return };
    assert!(!desk.is_raw());
    std::thread::scope(|scope| {
        let relay = scope.spawn(|| desk.relay(None));
        desk.see("guest: hello\r\n");
        assert!(desk.is_raw());
        desk.type_keys(b"AB\x03Z");
        assert_eq!(desk.see("Z"), "AB\x03Z", "Ctrl-C is the guest's");
        desk.type_keys(b"x\x1d");
        assert_eq!(relay.join().unwrap(), Left::Escape);
    });
    assert!(!desk.is_raw(), "the terminal is as it was before");
    assert_eq!(desk.running.exit(), None);
}

#[test]
fn the_machines_end_ends_the_relay_with_its_last_words_shown() {
    let Some(desk) = Desk::new() else { return };
    std::thread::scope(|scope| {
        let relay = scope.spawn(|| desk.relay(None));
        desk.see("guest: hello\r\n");
        assert_eq!(desk.running.stop(MINUTE).unwrap(), Exit::PowerOff);
        desk.see("guest: button\r\n");
        assert_eq!(relay.join().unwrap(), Left::Ended);
    });
    assert!(!desk.is_raw());
}

#[test]
fn a_relay_is_cancelled_from_outside() {
    let Some(desk) = Desk::new() else { return };
    let (cancelled, cancel) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let relay = scope.spawn(|| desk.relay(Some(cancelled.as_fd())));
        desk.see("guest: hello\r\n");
        drop(cancel);
        assert_eq!(relay.join().unwrap(), Left::Cancelled);
    });
    assert!(!desk.is_raw());
}

#[test]
fn an_input_that_is_no_terminal_may_end_before_the_machine() {
    let Some(desk) = Desk::new() else { return };
    let (input, mut typed) = std::io::pipe().unwrap();
    let (mut shown, output) = std::io::pipe().unwrap();
    typed.write_all(b"ABq").unwrap();
    drop(typed);
    let mut console = desk.running.console();
    let ends = Relay { input: input.as_fd(), output: output.as_fd(), escape: Relay::ESCAPE, cancel: None };
    assert_eq!(relay(&mut console, ends).unwrap(), Left::Ended);
    drop(output);
    let mut all = Vec::new();
    shown.read_to_end(&mut all).unwrap();
    assert_eq!(all, desk.running.transcript());
    assert!(all.ends_with(b"guest: hello\r\nAB"));
}
