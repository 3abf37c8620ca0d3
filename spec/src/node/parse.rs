//! Texts in, a node out.

use super::check::Checker;
use super::diagnostics::{Diagnostics, Warning};
use super::document::Document;
use super::finding::{Finding, Findings};
use super::raw::{RawContainer, RawNode};
use super::{ContainerSettings, Node, read};

/// A node file: its name, for messages, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The name that messages show.
    pub name: &'a str,
    /// The text, YAML of one document.
    pub text: &'a str,
}

/// What stands for the name of an image's label in messages.
const LABEL: &str = "org.mobyproject.config";

impl Node {
    /// Reads the files of a node and merges them, in order: lists are appended, of each key of `kernel` the last one
    /// that says something counts.
    ///
    /// # Errors
    /// Everything that is wrong, in all files at once.
    pub fn parse(sources: &[Source<'_>]) -> Result<(Node, Vec<Warning>), Diagnostics> {
        let findings = Findings::default();
        let read_in =
            |(file, source): (usize, &Source<'_>)| Document::read(source.name, source.text, file, &findings);
        let docs: Vec<Document> = sources.iter().enumerate().map(read_in).collect();
        let raws = docs.iter().enumerate().filter_map(|(file, doc)| read::read(doc, file, &findings));
        let raws: Vec<RawNode> = raws.collect();
        let node = Checker::of_node(&docs, &findings, &raws).node(&raws);
        for (file, doc) in docs.iter().enumerate() {
            templates_elsewhere(file, doc, &findings);
        }
        Diagnostics::settle(Some(node), &docs, findings.into_inner())
    }
}

impl ContainerSettings {
    /// Reads the label `org.mobyproject.config` of an image: a JSON object with the keys of a container, `name` and
    /// `image` excepted.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn from_label(text: &str) -> Result<ContainerSettings, Diagnostics> {
        let findings = Findings::default();
        let docs = [Document::read(LABEL, text, 0, &findings)];
        let raw: Option<RawContainer> = read::read(&docs[0], 0, &findings);
        let settings = raw.map(|raw| Checker::of_label(&docs, &findings).label(&raw));
        Diagnostics::settle(settings, &docs, findings.into_inner()).map(|(settings, _)| settings)
    }
}

/// LinuxKit resolves `@pkg:` in every text; here it is a way to name an image.
fn templates_elsewhere(file: usize, doc: &Document, findings: &Findings) {
    for (id, text) in doc.texts() {
        let path = doc.path(id);
        let image = path.ends_with(".image") || path.starts_with("init[") || path.starts_with("trust");
        if text.starts_with("@pkg:") && !image {
            let message = "a `@pkg:` template is resolved only where an image is named";
            let finding = Finding::error(file, doc.at(id), message).into_warning().path(path);
            findings.push(finding.hint("this text is taken as it is"));
        }
    }
}
