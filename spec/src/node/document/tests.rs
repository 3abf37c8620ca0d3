use super::{Document, MAX_DEPTH, MAX_VALUES, Value, ValueId};
use crate::node::finding::Findings;

fn read(text: &str) -> (Document, Vec<String>) {
    let findings = Findings::default();
    let doc = Document::read("a.yml", text, 0, &findings);
    let told = findings.into_inner().into_iter().map(|finding| {
        let at = doc.line_column(finding.at.start);
        format!("{}:{} {}: {}", at.line, at.column, finding.path, finding.message)
    });
    let told = told.collect();
    (doc, told)
}

fn get(doc: &Document, map: ValueId, name: &str) -> ValueId {
    let Value::Map(pairs) = doc.value(map) else { panic!("a mapping") };
    pairs.iter().find(|(key, _)| key.name == name).unwrap().1
}

fn shown(doc: &Document, id: ValueId) -> String {
    match doc.value(id) {
        Value::List(items) => {
            format!("[{}]", items.iter().map(|item| shown(doc, *item)).collect::<Vec<_>>().join(" "))
        }
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}={}", key.name, shown(doc, *value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        Value::Text(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn words_are_resolved_by_the_core_schema() {
    for (text, value) in [
        ("no", "\"no\""),
        ("on", "\"on\""),
        ("true", "Bool(true)"),
        ("~", "Null"),
        ("", "Null"),
        ("12", "Int(12)"),
        ("-1", "Int(-1)"),
        ("0x1f", "Int(31)"),
        ("0o17", "Int(15)"),
        ("0644", "Number(\"0644\")"),
        ("0", "Int(0)"),
        ("1.5", "Number(\"1.5\")"),
        (".inf", "Number(\".inf\")"),
        ("99999999999999999999", "Number(\"99999999999999999999\")"),
        ("1.2.3", "\"1.2.3\""),
        ("10.0.0.1/8", "\"10.0.0.1/8\""),
        ("1m30s", "\"1m30s\""),
        ("'12'", "\"12\""),
        ("!!str 12", "\"12\""),
        ("!!int '12'", "Int(12)"),
    ] {
        let (doc, told) = read(&format!("a: {text}"));
        assert_eq!(shown(&doc, get(&doc, doc.root().unwrap(), "a")), value, "{text}");
        assert!(told.is_empty(), "{text}: {told:?}");
    }
}

#[test]
fn a_value_knows_its_place_and_its_path() {
    let (doc, told) = read("a:\n  - b: é\n    c.d: [1, zwei]\n");
    assert!(told.is_empty());
    let found: Vec<String> = doc
        .texts()
        .map(|(id, text)| {
            let at = doc.line_column(doc.at(id).start);
            format!("{}:{} {} {text}", at.line, at.column, doc.path(id))
        })
        .collect();
    assert_eq!(found, ["2:8 a[0].b é", "3:14 a[0].c.d[1] zwei"]);
}

#[test]
fn an_alias_stands_for_a_copy_and_a_merge_fills_in() {
    let (doc, told) = read("x: &x {a: 1, b: 2}\ny: *x\nz:\n  <<: *x\n  b: 3\nw: {<<: [{c: 4}, *x]}\n");
    assert!(told.is_empty(), "{told:?}");
    let root = doc.root().unwrap();
    assert_eq!(shown(&doc, get(&doc, root, "y")), "{a=Int(1) b=Int(2)}");
    assert_eq!(shown(&doc, get(&doc, root, "z")), "{b=Int(3) a=Int(1)}");
    assert_eq!(shown(&doc, get(&doc, root, "w")), "{c=Int(4) a=Int(1) b=Int(2)}");
    assert_eq!(doc.path(get(&doc, get(&doc, root, "z"), "a")), "z.a");
    assert_eq!(doc.line_column(doc.at(get(&doc, get(&doc, root, "z"), "a")).start).line, 1);
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    for (text, message) in [
        ("", "1:1 : the file is empty"),
        ("# only this\n", "1:1 : the file is empty"),
        ("a: 1\na: 2", "2:1 a: the key `a` is written twice"),
        ("a: 1\n---\nb: 2", "2:1 : a second document begins here"),
        ("a: 1\n---\n", "2:1 : a second document begins here"),
        ("a: [1\nb: 2", "2:2 : this is not YAML"),
        ("a: *b", "1:4 : this is not YAML: while parsing node, found unknown anchor"),
        ("a: &a [*a]", "1:8 : an alias stands inside of what it is an alias of"),
        ("[a]: b", "1:1 : a key is a word, not a list or a mapping"),
        ("a: {<<: 5}", "1:9 a.<<: `<<` takes a mapping, or a list of mappings"),
        ("a: !x b", "a tag that a node file has no use for"),
        ("a:\n\tb: 1", "this is not YAML"),
    ] {
        let (_, told) = read(text);
        assert!(told.iter().any(|told| told.contains(message)), "{text:?}: {told:?}");
    }
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let last = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", vec![last; 10].join(", "));
    }
    let (doc, told) = read(&text);
    assert!(doc.root().is_none());
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&format!("more than {MAX_VALUES} values")), "{told:?}");
}

#[test]
fn levels_are_bounded_in_the_text_and_through_aliases() {
    let (doc, told) = read(&format!("{}x{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(doc.root().is_none() && told[0].contains("this is not YAML"), "{told:?}");
    let mut text = "a0: &a0 x\n".to_owned();
    for i in 1..200 {
        text += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let (doc, told) = read(&text);
    assert!(doc.root().is_none());
    assert!(told[0].contains(&format!("more than {MAX_DEPTH} levels")), "{told:?}");
}

#[test]
fn contents_of_files_are_secret_and_nothing_else_is() {
    let text = "files:\n  - path: a\n    contents: |\n      one\n      two\n    mode: '0600'\n  - {path: b, contents: c}\n  \
        - path: d\n    contnts: hush\n    uid: 0\nservices:\n  - name: contents\n";
    let (doc, _) = read(text);
    let secret: Vec<usize> = (0..text.lines().count())
        .filter(|line| {
            let start = text.split_inclusive('\n').take(*line).map(str::len).sum();
            doc.is_secret(&(start..start + 1))
        })
        .map(|line| line + 1)
        .collect();
    assert_eq!(secret, [4, 5, 7, 9]);
}

#[test]
fn without_a_tree_everything_from_contents_to_the_next_section_is_secret() {
    let text = "kernel: {}\nfiles:\n  - path: a\n    contents: |\n      one\n ]\nmode: x\nservices:\n  - ]\n";
    let (doc, told) = read(text);
    assert!(doc.root().is_none() && told.len() == 1);
    let line = |number: usize| {
        let start: usize = text.split_inclusive('\n').take(number - 1).map(str::len).sum();
        doc.is_secret(&(start..start))
    };
    let secret: Vec<usize> = (1..=9).filter(|number| line(*number)).collect();
    assert_eq!(secret, [4, 5, 6, 7]);
}
