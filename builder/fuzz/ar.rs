//! Any bytes, taken as a Debian package, come to an end, and give no more than they are.
#![no_main]

use kitbuild::source::ar::Members;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut members, mut total) = (Members::new(bytes), 0);
    while let Ok(Some((_, mut data))) = members.next_member() {
        let Ok(read) = std::io::copy(&mut data, &mut std::io::sink()) else { return };
        total += read;
    }
    assert!(total <= bytes.len() as u64);
});
