//! Any text, taken as the name of an image, is refused, or has a whole form that is the same name.
#![no_main]

use kit_oci::reference::Reference;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
});
