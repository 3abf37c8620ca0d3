//! Any bytes, taken as a manifest or an index of any declared type, are read or refused.
#![no_main]

use kit_oci::manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = manifest::parse(bytes, None);
});
