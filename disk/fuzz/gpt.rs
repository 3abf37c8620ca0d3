//! Any bytes, taken as a disk, have a partition table that can be used, or are refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = kit_disk::gpt::read(&mut std::io::Cursor::new(bytes));
});
