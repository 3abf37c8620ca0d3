//! The power button: an input device that says KEY_POWER (linux/input-event-codes.h).

use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `struct input_event` on 64-bit Linux: a time of 16 bytes, type, code, value.
const EVENT: usize = 24;

/// Opens the input devices that have a power button, by what sysfs says of them.
pub fn open_all(dir: &Path) -> Vec<File> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
        .iter()
        .filter(|name| name.starts_with("event") && has_power(name))
        .filter_map(|name| {
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
            File::options().read(true).custom_flags(flags).open(dir.join(name)).ok()
        })
        .collect()
}

/// True if two files are one device.
pub fn is_same(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => a.rdev() == b.rdev(),
        _ => false,
    }
}

fn has_power(name: &str) -> bool {
    fs::read_to_string(format!("/sys/class/input/{name}/device/capabilities/key"))
        .is_ok_and(|keys| has_key(&keys, KEY_POWER))
}

/// The bitmap of keys: words of 64 bits in hexadecimal, the highest first.
fn has_key(bitmap: &str, key: u16) -> bool {
    let word = bitmap.split_whitespace().rev().nth(usize::from(key / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|word| word >> (key % 64) & 1 == 1)
}

/// Reads what a device said; true if its power button was pressed.
pub fn is_power(device: &mut File) -> bool {
    let mut pressed = false;
    let mut events = [0; EVENT * 16];
    while let Ok(len) = device.read(&mut events) {
        if len == 0 {
            break;
        }
        for event in events[..len].chunks_exact(EVENT) {
            let kind = u16::from_ne_bytes([event[16], event[17]]);
            let code = u16::from_ne_bytes([event[18], event[19]]);
            let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
            pressed |= (kind, code, value) == (EV_KEY, KEY_POWER, 1);
        }
    }
    pressed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_of_keys_is_read_from_its_end() {
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(!has_key("10000000000000 0\n", 30));
        assert!(has_key("4", 2));
        assert!(!has_key("", KEY_POWER));
    }
}
