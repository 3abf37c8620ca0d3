//! A good file, broken in one place at a time: the error is where the break is, and says which rule it is.

mod rules;

use kit_spec::node::{Diagnostics, Node, Problem, Source};

const GOOD: &str = include_str!("../every-key.yml");

/// A key of the good file: where, and what its path is.
struct Line<'a> {
    /// From 1.
    number: usize,
    indent: usize,
    key: &'a str,
    path: String,
    /// What follows the colon; empty if that is on the next lines.
    value: &'a str,
}

#[test]
fn the_good_file_is_good() {
    assert!(errors(GOOD).is_none());
}

#[test]
fn each_rule_is_told_at_the_place_where_it_is_broken() {
    let mut wrong = String::new();
    for (find, replace, path, rule) in rules::BROKEN {
        assert_eq!(GOOD.matches(find).count(), 1, "{find:?} is to be in the good file once");
        let marked = GOOD.replace(find, replace);
        let place = marked.find('«').unwrap_or_else(|| panic!("{replace:?} is to say where the error is"));
        let line = marked[..place].matches('\n').count() + 1;
        let column = marked[..place].rsplit('\n').next().unwrap().chars().count() + 1;
        let found = errors(&marked.replacen('«', "", 1));
        let told = found.iter().flat_map(Diagnostics::errors).any(|error| {
            (error.line, error.column, &*error.path) == (line, column, path) && error.message.contains(rule)
        });
        if !told {
            wrong +=
                &format!("{replace:?}: wanted {line}:{column}: {path}: {rule}; found {}\n\n", list(&found));
        }
    }
    println!("{} variants", rules::BROKEN.len());
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_key_with_a_letter_too_many_is_unknown_and_the_right_one_is_suggested() {
    let mut variants = 0;
    for line in lines().iter().filter(|line| !is_free(&line.path)) {
        let wrong = format!("{}x", line.key);
        let path = format!("{}x", line.path);
        let error =
            told(line, |text| text.replacen(&format!("{}:", line.key), &format!("{wrong}:"), 1), &path);
        assert_eq!(error.message, format!("unknown key `{wrong}`"));
        assert_eq!(error.hint, Some(format!("did you mean `{}`?", line.key)), "{path}");
        assert_eq!((error.line, error.column), (line.number, line.indent + 1), "{path}");
        variants += 1;
    }
    println!("{variants} variants");
    assert!(variants > 200, "{variants}");
}

#[test]
fn a_key_that_is_written_twice_is_an_error_at_the_second() {
    let mut variants = 0;
    for line in lines().iter().filter(|line| !line.value.is_empty()) {
        let twice = |text: &str| format!("{text}\n{}{}: {}", " ".repeat(line.indent), line.key, line.value);
        let error = told(line, twice, &line.path);
        assert_eq!(error.message, format!("the key `{}` is written twice", line.key));
        assert_eq!((error.line, error.column), (line.number + 1, line.indent + 1), "{}", line.path);
        assert_eq!(error.see.unwrap().line, line.number);
        variants += 1;
    }
    println!("{variants} variants");
    assert!(variants > 150, "{variants}");
}

#[test]
fn a_value_of_another_kind_is_an_error_at_its_key() {
    let mut variants = 0;
    for line in lines().iter().filter(|line| !line.value.is_empty()) {
        let nothing = |text: &str| text.strip_suffix(line.value).unwrap().trim_end().to_owned();
        let error = told(line, nothing, &line.path);
        assert!(error.message.starts_with("expected "), "{}: {}", line.path, error.message);
        assert!(error.message.ends_with("found nothing"), "{}: {}", line.path, error.message);
        assert_eq!((error.line, error.column), (line.number, line.indent + 1), "{}", line.path);
        variants += 1;
        if line.key == "restart" {
            continue;
        }
        let mapping = |text: &str| format!("{}{{a: b}}", text.strip_suffix(line.value).unwrap());
        let error = told(line, mapping, &line.path);
        assert!(error.message.ends_with("found a mapping"), "{}: {}", line.path, error.message);
        assert_eq!((error.line, error.column), (line.number, line.indent + 1), "{}", line.path);
        variants += 1;
    }
    println!("{variants} variants");
    assert!(variants > 300, "{variants}");
}

#[test]
fn all_errors_are_told_at_once_and_in_order() {
    let mut text = GOOD.to_owned();
    for (find, replace, ..) in
        rules::BROKEN.iter().filter(|(find, ..)| find.starts_with("oomScoreAdj")).take(1)
    {
        text = text.replace(find, &replace.replace('«', ""));
    }
    text = text.replace("cwd: /srv", "cwd: srv").replace("init:\n", "inti:\n").replace("gid: 33", "gid: wbe");
    text = text.replace("path: etc/motd", "path: ../etc/motd").replace("grace: 15s", "grace: soon");
    let found = errors(&text).unwrap();
    let paths: Vec<&str> = found.errors().iter().map(|error| error.path.as_str()).collect();
    let of_web = ["services[0].cwd", "services[0].gid", "services[0].oomScoreAdj", "services[0].stop.grace"];
    assert_eq!(paths, [&["inti"][..], &of_web, &["files[0].path"]].concat());
    let lines: Vec<usize> = found.errors().iter().map(|error| error.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

/// Breaks the line of a key, and gives the error that has `path`.
fn told(line: &Line<'_>, breaks: impl Fn(&str) -> String, path: &str) -> Problem {
    let changed = GOOD.lines().enumerate().map(|(i, text)| match i + 1 == line.number {
        true => breaks(text),
        false => text.to_owned(),
    });
    let found = errors(&changed.collect::<Vec<_>>().join("\n"));
    let error = found.iter().flat_map(Diagnostics::errors).find(|error| error.path == path);
    error.unwrap_or_else(|| panic!("{path} at line {}: {}", line.number, list(&found))).clone()
}

fn errors(text: &str) -> Option<Diagnostics> {
    Node::parse(&[Source { name: "node.yml", text }]).err()
}

fn list(found: &Option<Diagnostics>) -> String {
    let errors: Vec<String> = found.iter().flat_map(Diagnostics::errors).map(Problem::to_string).collect();
    if errors.is_empty() { "nothing".to_owned() } else { errors.join("\n    ") }
}

/// Whether a key is of the user's own making.
fn is_free(path: &str) -> bool {
    path.contains(".sysctl.") || path.contains(".annotations.")
}

/// The keys of the good file, which is in block style with two blanks a level.
fn lines() -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    // Of each open level: its indentation, the path of what is there, how many items it has had.
    let mut open: Vec<(usize, String, usize)> = vec![(0, String::new(), 0)];
    for (i, text) in GOOD.lines().enumerate().filter(|(_, text)| !text.starts_with('#')) {
        let mut indent = text.len() - text.trim_start().len();
        let mut rest = text.trim_start();
        open.retain(|(at, ..)| *at <= indent);
        if let Some(item) = rest.strip_prefix("- ") {
            let (_, list, items) = open.last_mut().unwrap();
            let path = format!("{list}[{items}]");
            *items += 1;
            (rest, indent) = (item, indent + 2);
            open.push((indent, path, 0));
        }
        let key = rest.split(": ").next().unwrap().trim_end_matches(':');
        if key.contains([' ', '"', '/', '[']) || !rest[key.len()..].starts_with(':') {
            continue;
        }
        let above = &open.last().unwrap().1;
        let path = if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
        let value = rest[key.len() + 1..].trim();
        if value.is_empty() {
            open.push((indent + 2, path.clone(), 0));
        }
        lines.push(Line { number: i + 1, indent, key, path, value });
    }
    lines
}
