//! Any text, taken as the description of an artifact, is refused, or names files of its own directory only.
#![no_main]

use kit_spec::artifact::Artifact;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(artifact) = Artifact::parse(text) else { return };
    for name in artifact.files.iter().map(|file| file.path.as_str()).chain(artifact.boot.files()) {
        assert!(!name.is_empty() && name != ".." && !name.contains(['/', '\0']), "{name}");
    }
});
