//! No text makes the parser panic, loop or lie about a place.

use kit_spec::node::{ContainerSettings, Node, Problem, Source};
use proptest::prelude::*;

const EVERY_KEY: &str = include_str!("every-key.yml");

/// A change to a text, at places in thousandths of its length.
#[derive(Debug, Clone)]
enum Change {
    Remove(usize, usize),
    Repeat(usize, usize),
    Insert(usize, String),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = 0..1000_usize;
    prop_oneof![
        (place.clone(), 0..40_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        (place.clone(), 0..400_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        (place.clone(), "[\\[\\]{}:,&*#?|>!%@`'\"~<\\-\n\t a0é\u{0}\u{feff}\u{2028}]{1,6}")
            .prop_map(|(at, text)| Change::Insert(at, text)),
        (place.clone(), place).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let at = |thousandths: usize| text.floor_char_boundary(text.len() * thousandths / 1000);
    let end = |start: usize, len: usize| text.floor_char_boundary((start + len).min(text.len())).max(start);
    match change {
        Change::Remove(place, len) => {
            let start = at(*place);
            format!("{}{}", &text[..start], &text[end(start, *len)..])
        }
        Change::Repeat(place, len) => {
            let start = at(*place);
            format!("{}{}", &text[..end(start, *len)], &text[start..])
        }
        Change::Insert(place, inserted) => {
            format!("{}{inserted}{}", &text[..at(*place)], &text[at(*place)..])
        }
        Change::Swap(a, b) => {
            let mut lines: Vec<&str> = text.split('\n').collect();
            let number = lines.len();
            lines.swap(a * number / 1000, b * number / 1000);
            lines.join("\n")
        }
    }
}

/// Parses a text, and holds every place that is told against it.
fn check(text: &str) {
    let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
    let place = |problem: &Problem| {
        let line = lines.get(problem.line - 1).unwrap_or_else(|| panic!("line {} of {text:?}", problem.line));
        assert!(problem.column <= line.chars().count() + 1, "{problem} of {text:?}");
    };
    match Node::parse(&[Source { name: "node.yml", text }]) {
        Ok((node, warnings)) => {
            warnings.iter().for_each(|warning| place(&warning.0));
            warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
            let (again, _) = Node::parse(&[Source { name: "again.yml", text: &node.to_yaml() }])
                .unwrap_or_else(|errors| panic!("{errors}\n{}", node.to_yaml()));
            assert_eq!(again, node);
        }
        Err(errors) => {
            assert!(!errors.errors().is_empty());
            errors.errors().iter().for_each(place);
            assert!(errors.to_string().starts_with("error: "));
            assert!(!errors.render(true).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_good_file_with_changes_is_read_or_refused(changes in prop::collection::vec(change(), 1..6)) {
        let text = changes.iter().fold(EVERY_KEY.to_owned(), |text, change| changed(&text, change));
        check(&text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(services|files|kernel|name|image|binds|- |  |: |\n|[\\[\\]{}&*a,\"']){0,60}") {
        check(&text);
    }

    #[test]
    fn any_label_is_read_or_refused(text in "(\\{|\\}|\"env\"|\"binds\"|\"mounts\"|\\[|\\]|:|,|\"/a:/b\"|1|null|true){0,30}") {
        if let Err(errors) = ContainerSettings::from_label(&text) {
            prop_assert!(!errors.errors().is_empty());
        }
    }

    #[test]
    fn any_value_of_a_text_is_written_so_that_it_reads_back(value in "\\PC{0,20}|[\n\t\r\u{7f}\u{85}\u{a0}\u{feff}\u{2028}\u{1}'\":#-]{0,8}") {
        let text = serde_json::json!({"services": [{
            "name": "a",
            "image": "a",
            "env": [value],
            "annotations": {format!("k{value}"): value},
        }]});
        if let Ok((node, _)) = Node::parse(&[Source { name: "a.json", text: &text.to_string() }]) {
            let (again, _) = Node::parse(&[Source { name: "a.yml", text: &node.to_yaml() }])
                .unwrap_or_else(|errors| panic!("{errors}\n{}", node.to_yaml()));
            prop_assert_eq!(again, node);
        }
    }
}

#[test]
fn a_file_on_one_line_as_long_as_a_file_is_refused_in_time() {
    let keys: String = (0..20_000).map(|i| format!("k{i}: {i}, ")).collect();
    let errors = Node::parse(&[Source { name: "node.yml", text: &format!("{{{keys}}}") }]).unwrap_err();
    assert_eq!(errors.errors().len(), 20_000);
    let shown = errors.to_string();
    assert!(shown.len() < 100_000 && shown.ends_with("and 19900 more errors"), "{}", shown.len());
}

#[test]
fn a_text_beyond_the_limit_is_refused() {
    let text = format!("files: [{{path: a, contents: {}}}]", "x".repeat(17 << 20));
    let errors = Node::parse(&[Source { name: "node.yml", text: &text }]).unwrap_err();
    assert!(errors.to_string().contains("and 16777216 is the limit"), "{errors}");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "x0: &x0 [a, a, a, a, a, a, a, a, a]\n".to_owned();
    for i in 1..40 {
        text += &format!("x{i}: &x{i} [{}]\n", vec![format!("*x{}", i - 1); 9].join(","));
    }
    let errors = Node::parse(&[Source { name: "node.yml", text: &text }]).unwrap_err();
    assert!(errors.to_string().contains("with aliases expanded"), "{errors}");
}
