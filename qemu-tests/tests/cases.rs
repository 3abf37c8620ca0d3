//! Runs the cases, each as a test of its own: takes libtest's arguments and prints as it does.
//!
//!   cargo test -p qemu-tests --test cases -- 000_formats        those whose name contains this
//!   cargo test -p qemu-tests --test cases -- --list

use qemu_tests::Kitbuild;
use qemu_tests::case::{Case, CaseError};
use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What was asked for; arguments of libtest that make no difference here are accepted.
#[derive(Default)]
struct Args {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
}

impl Args {
    fn parse(words: impl Iterator<Item = String>) -> Args {
        let mut args = Args::default();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => args.exact = true,
                "--list" => args.list = true,
                "--ignored" => args.ignored = true,
                "--skip" => args.skips.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "-Z" | "--logfile" => drop(words.next()),
                word if word.starts_with('-') => {}
                _ => args.filters.push(word),
            }
        }
        args
    }

    fn wants(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skips.iter().any(matches)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

fn main() -> ExitCode {
    let args = Args::parse(std::env::args().skip(1));
    let root = qemu_tests::workspace().join("qemu-tests/cases");
    let all = match Case::all(&root) {
        Ok(all) => all,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let total = all.len();
    let mut cases: Vec<Case> = all.into_iter().filter(|case| args.wants(&case.name)).collect();
    if args.ignored {
        // What is skipped here is so for want of programs, not by name.
        cases.clear();
    }
    if args.list {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let filtered = total - cases.len();
    println!("\nrunning {} tests", cases.len());
    let began = Instant::now();
    let outcomes = run(cases);
    let with = |wanted: Outcome| {
        outcomes.iter().filter(move |(_, outcome)| *outcome == wanted).map(|(name, _)| name)
    };
    let failed = with(Outcome::Failed).count();
    if failed > 0 {
        println!("\nfailures:");
        with(Outcome::Failed).for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        with(Outcome::Passed).count(),
        failed,
        with(Outcome::Skipped).count(),
        began.elapsed().as_secs_f64(),
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two at a time; results by name.
fn run(cases: Vec<Case>) -> Vec<(String, Outcome)> {
    let todo = Mutex::new(VecDeque::from(cases));
    let done = Mutex::new(Vec::new());
    let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let outcome = run_one(&case);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((case.name, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by(|(a, _), (b, _)| a.cmp(b));
    done
}

fn run_one(case: &Case) -> Outcome {
    let name = &case.name;
    let kitbuild = match Kitbuild::staged() {
        Ok(kitbuild) => kitbuild,
        Err(missing) => {
            println!("test {name} ... ignored, {missing}");
            return Outcome::Skipped;
        }
    };
    let began = Instant::now();
    match case.run(&kitbuild) {
        Ok(()) => {
            println!("test {name} ... ok ({:.1} s)", began.elapsed().as_secs_f64());
            Outcome::Passed
        }
        Err(error) => {
            // At once: the others take minutes.
            println!("test {name} ... FAILED\n{}", chain(&error));
            Outcome::Failed
        }
    }
}

fn chain(error: &CaseError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(&format!("\ncaused by: {message}"));
        }
        source = error.source();
    }
    text
}
