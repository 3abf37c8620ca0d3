//! Any text, taken as the label in which an image says how it is run, is read or refused.
#![no_main]

use kit_spec::node::ContainerSettings;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(errors) = ContainerSettings::from_label(text) {
        assert!(!errors.errors().is_empty());
    }
});
