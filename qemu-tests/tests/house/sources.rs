//! What the sources themselves must keep to.

use crate::{assert_none, workspace};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const LONGEST: usize = 600;

/// Crates with a `sys` module, where `unsafe` is allowed.
const WITH_SYS: &[&str] = &["runtime", "init", "machine", "images/net"];

/// Names of modules that say nothing of what is in them.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "manager", "core", "types", "misc"];

struct Source {
    /// Relative to the workspace.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The part before the file's unit tests.
    fn without_tests(&self) -> &str {
        let at = self.text.find("\n#[cfg(test)]").map_or(self.text.len(), |at| at + 1);
        &self.text[..at]
    }

    /// True if all of it is tests: of `tests/`, or a `tests` module.
    fn is_test(&self) -> bool {
        self.path
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "fuzz" | "benches")))
            || self.stem() == "tests"
    }

    fn stem(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

/// Every Rust file of the members, by path.
fn sources() -> Vec<Source> {
    let root = workspace();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let members = members.expect("a list of members").split(',').map(|word| word.trim().trim_matches('"'));
    let mut sources = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        collect(&root, Path::new(member), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    sources
}

fn collect(root: &Path, dir: &Path, sources: &mut Vec<Source>) {
    let entries =
        fs::read_dir(root.join(dir)).unwrap_or_else(|error| panic!("read {}: {error}", dir.display()));
    for entry in entries.flatten() {
        let path = dir.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() != "target" {
                collect(root, &path, sources);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source is text");
            sources.push(Source { path, text });
        }
    }
}

/// The code of a text: comments, strings and characters become blanks, so that words in them do not count.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        match skipped {
            Some(length) => {
                code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

/// The length of a comment at the beginning of a text.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

/// The length of a string at the beginning of a text, raw or not.
fn string(text: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = 1 + hashes + 1;
            return Some(text[from..].find(&end).map_or(text.len(), |at| from + at + end.len()));
        }
    }
    text.starts_with('"').then(|| quoted(text, '"'))
}

/// The length of a character at the beginning of a text; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    (first == '\\' || inner[first.len_utf8()..].starts_with('\'')).then(|| quoted(text, '\''))
}

fn quoted(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The numbers of lines in which a word stands by itself.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|one| one == word);
    code.lines().enumerate().filter(|(_, line)| has(line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn words_in_comments_and_strings_are_no_code() {
    let text = "// unsafe\nlet a = \"unsafe \\\" unsafe\"; /* unsafe\n */ let b = r#\"unsafe\" unsafe\"#;\nunsafe { 'a' }\n\
                fn f<'a>() { '\\'' ; unsafe }\n";
    assert_eq!(lines_with(&code(text), "unsafe"), [4, 5]);
    assert!(lines_with("unsafe_code", "unsafe").is_empty());
}

#[test]
fn unsafe_code_is_in_sys_modules_only() {
    let mut found = Vec::new();
    for source in sources() {
        let path = source.shown();
        let in_sys = WITH_SYS.iter().any(|name| {
            let inside = path.strip_prefix(&format!("{name}/src/"));
            inside.is_some_and(|inside| inside == "sys.rs" || inside.starts_with("sys/"))
        });
        if in_sys || path.starts_with("vmm/") {
            continue;
        }
        let code = code(&source.text);
        found.extend(lines_with(&code, "unsafe").iter().map(|line| format!("{path}:{line}")));
    }
    assert_none("`unsafe` outside of a sys module", &found);
}

#[test]
fn files_are_short_before_their_tests() {
    let long = sources().into_iter().filter(|source| !source.is_test()).filter_map(|source| {
        let lines = source.without_tests().lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", source.shown()))
    });
    assert_none("files of more than 600 lines before their tests", &long.collect::<Vec<_>>());
}

#[test]
fn modules_are_named_for_what_is_in_them() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .filter(|source| {
            let parent = source.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            EMPTY_NAMES.contains(&source.stem()) || parent == Some(source.stem())
        })
        .map(Source::shown)
        .collect();
    assert_none("module names that say nothing", &found);
}

#[test]
fn crates_open_with_their_purpose() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.ends_with("src/lib.rs") && !source.text.starts_with("//! "))
        .map(Source::shown)
        .collect();
    assert_none("crates whose lib.rs does not open with what they are for", &found);
}

#[test]
fn only_the_command_line_prints_and_only_main_exits() {
    /// Where a program talks to its user: `kitctl` prints what PID 1 answers.
    const PRINT: &[&str] = &["cli", "main", "ctl", "report"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let code = code(source.without_tests());
        let path = source.shown();
        // A build script tells cargo.
        if source.path.ends_with("build.rs") && !path.contains("/src/") {
            continue;
        }
        let has = |word: &str| code.lines().position(|line| line.contains(word)).map(|at| at + 1);
        let prints = ["println!(", "print!("].iter().filter_map(|word| {
            // The e of eprintln! comes before; standard error is open to all.
            let at = code.match_indices(word).find(|(at, _)| !code[..*at].ends_with('e'))?.0;
            Some(code[..at].lines().count())
        });
        if !PRINT.contains(&source.stem()) && !path.contains("/cli/") && !path.starts_with("qemu-tests/") {
            found.extend(prints.map(|line| format!("{path}:{line} prints")));
        }
        if source.stem() != "main"
            && let Some(line) = has("process::exit(")
        {
            found.push(format!("{path}:{line} exits"));
        }
    }
    assert_none("prints outside of a command line, or exits outside of main.rs", &found);
}

#[test]
fn the_words_do_no_io() {
    /// What reaches out of the process.
    const OUT: &[&str] = &[
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "std::env",
        "std::process",
        "std::os",
        "std::thread",
        "rustix",
        "libc",
    ];
    let mut found = Vec::new();
    let words = |source: &&Source| source.path.starts_with("spec/src") || source.path.starts_with("cri/src");
    for source in sources().iter().filter(words).filter(|source| !source.is_test()) {
        let code = code(source.without_tests());
        for (at, line) in code.lines().enumerate() {
            let out = OUT.iter().find(|word| line.contains(*word));
            found.extend(out.map(|word| format!("{}:{}: {word}", source.shown(), at + 1)));
        }
    }
    assert_none("spec and cri only say what there is to say", &found);
}

#[test]
fn the_engine_names_no_word_of_nodes() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.starts_with("runtime/src") && code(&source.text).contains("kit_spec"))
        .map(Source::shown)
        .collect();
    assert_none("runtime knows bundles, not nodes", &found);
}
