//! Any text, taken as a recipe, is refused with its path, or puts nothing outside of the image.
#![no_main]

use kitbuild::source::recipe::Recipe;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Recipe::parse(text, Path::new("/r"), Path::new("/r/image.yml")) {
        Ok(recipe) => recipe.files.iter().for_each(|file| assert!(!file.path.is_root())),
        Err(error) => assert!(error.to_string().starts_with("/r/image.yml")),
    }
});
