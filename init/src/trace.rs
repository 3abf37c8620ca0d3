//! `kit.trace` on the kernel's command line: what begins when, written to the kernel's log, which has the time.
//!
//! With `printk.devkmsg=on` no line is left out.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static WANTED: AtomicBool = AtomicBool::new(false);

/// Writes marks from now on, if the command line asks for it.
pub fn begin() {
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    WANTED.store(is_wanted(&cmdline), Ordering::Relaxed);
}

fn is_wanted(cmdline: &str) -> bool {
    cmdline.split_whitespace().any(|word| word == "kit.trace")
}

/// Something begins.
pub fn mark(what: fmt::Arguments<'_>) {
    if WANTED.load(Ordering::Relaxed)
        && let Ok(mut log) = File::options().write(true).open("/dev/kmsg")
    {
        // One write is one line.
        let _ = log.write_all(format!("<6>kit: {what}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_asks_for_it() {
        assert!(is_wanted("quiet kit.trace root=x\n"));
        assert!(!is_wanted("kit.trace=0"));
    }
}
