//! Any text, taken as a lock, is refused, or names nothing that is an option or leads to another file.
#![no_main]

use kit_spec::lock::Lock;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(lock) = Lock::parse(text) else { return };
    for pin in lock.packages.values().flat_map(|requests| requests.values()).flatten() {
        for word in [&pin.name, &pin.version, &pin.architecture, &pin.sha256] {
            assert!(!word.starts_with(['-', '.']) && !word.contains(['/', '\0', ' ']), "{word}");
        }
    }
    assert_eq!(Lock::parse(&lock.to_json()).ok(), Some(lock));
});
