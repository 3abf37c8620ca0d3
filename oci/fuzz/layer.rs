//! Any bytes, taken as a layer of any compression, come to an end: in a tree or in an error.
#![no_main]

use kit_oci::layer::{Layer, Options, fold};
use kit_spec::tree::{Meta, Tree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let options = Options {
        max_entries: 1000,
        max_file: 1 << 20,
        max_total: 4 << 20,
        max_extension: 1 << 16,
        ..Options::default()
    };
    let Ok(layer) = Layer::with_options(bytes, None, options) else { return };
    let mut tree = Tree::new(Meta::default());
    let _ = fold(layer, &mut tree, |_, len, content| {
        let read = std::io::copy(content, &mut std::io::sink())?;
        assert_eq!(read, len, "a content is as long as it was said to be");
        Ok(())
    });
});
