//! Any text, taken as a node file, is read or refused; what is read reads back from what is written of it.
#![no_main]

use kit_spec::node::{Node, Source};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Node::parse(&[Source { name: "node.yml", text }]) {
        Ok((node, _)) => {
            let written = node.to_yaml();
            let again = Node::parse(&[Source { name: "again.yml", text: &written }]);
            assert!(again.is_ok_and(|(again, _)| again == node), "{written}");
        }
        Err(errors) => assert!(errors.to_string().starts_with("error: ")),
    }
});
