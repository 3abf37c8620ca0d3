use std::path::Path;

use kit_spec::node::container::ImageDefaults;
use kit_spec::node::{ContainerSettings, Node, Section, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod accounts;
mod golden;
mod places;
mod roots;

/// The first service of a node file whose image has this configuration.
fn settle(node: &str, image: &Value) -> Container {
    let parsed = Node::parse(&[Source { name: "node.yml", text: node }]);
    let (node, _) = parsed.unwrap_or_else(|wrong| panic!("{wrong}"));
    let strings = |key: &str| {
        let list = image[key].as_array().cloned().unwrap_or_default();
        list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let defaults = ImageDefaults {
        entrypoint: strings("Entrypoint"),
        cmd: strings("Cmd"),
        env: strings("Env"),
        working_dir: image["WorkingDir"].as_str().unwrap_or_default().to_owned(),
        user: None,
    };
    let label = match image["Labels"]["org.mobyproject.config"].as_str() {
        Some(label) => ContainerSettings::from_label(label).unwrap_or_else(|wrong| panic!("{wrong}")),
        None => ContainerSettings::default(),
    };
    let written = &node.services[0].settings;
    ContainerSettings::merged(&defaults, &label, written, &node.ids())
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("it is JSON")
}
