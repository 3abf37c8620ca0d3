//! The inputs that fuzzing starts from and those that once broke something.

use std::path::PathBuf;

use super::*;

#[test]
fn every_input_of_the_corpus_is_survived() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/layer");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a directory's entry").path();
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fuzzing::survive(&bytes);
        inputs += 1;
    }
    assert!(inputs >= 5, "{inputs} inputs in {}", dir.display());
}
