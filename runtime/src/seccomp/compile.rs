//! From rules to a classic BPF program.
//!
//! The kernel runs it at every system call with `struct seccomp_data { nr, arch, ip, args[6] }`. It
//! returns what shall happen.
//!
//! ```text
//! load arch;  for each architecture: equal -> its section
//! return KILL_PROCESS                     a call convention that nobody described
//! section: load nr
//!   nr beyond every call that the profile names -> ENOSYS (where the default is an errno), so that
//!                                         C libraries fall back as on an older kernel
//!   binary search over ranges of numbers with the same answer
//!     leaf: return action
//!     leaf with conditions: for each rule, in order: all conditions hold -> return its action;
//!                           then the rule without conditions, else the default
//! ```

use super::table::{Architecture, number};
use crate::sys::seccomp::SockFilter;
use std::collections::BTreeMap;

/// Let the call happen.
pub const ALLOW: u32 = 0x7fff_0000;
/// Let the call fail with the errno in the low bits.
pub const ERRNO: u32 = 0x0005_0000;
/// Kill all threads.
pub const KILL_PROCESS: u32 = 0x8000_0000;

/// Calls with this bit are of the x32 convention, which shares its number with x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// A test of a 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The argument is not this.
    NotEqual(u64),
    /// The argument is less.
    Less(u64),
    /// The argument is not more.
    LessOrEqual(u64),
    /// The argument is this.
    Equal(u64),
    /// The argument is not less.
    GreaterOrEqual(u64),
    /// The argument is more.
    Greater(u64),
    /// The argument's bits under the mask are these.
    Masked {
        /// Which bits count.
        mask: u64,
        /// What they have to be.
        equals: u64,
    },
}

/// A test of one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: usize,
    /// The test.
    pub test: Test,
}

/// One rule: for calls of these names for which all conditions hold, this action.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// Calls. Names that are unknown, or of other architectures, mean nothing.
    pub names: &'a [String],
    /// Conditions, each on another argument.
    pub conditions: Vec<Condition>,
    /// What the kernel is to return.
    pub action: u32,
}

/// What happens for one call number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer<'a> {
    conditional: Vec<(&'a [Condition], u32)>,
    otherwise: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

fn plain(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

/// The program for `rules`; `default` is the kernel's return value where none of them applies.
pub fn compile(architectures: &[Architecture], default: u32, rules: &[Rule<'_>]) -> Vec<SockFilter> {
    let mut out = vec![plain(LOAD, OFFSET_ARCH)];
    for &architecture in architectures {
        let section = section(architecture, default, rules);
        out.push(jump(JUMP_EQUAL, architecture.audit(), 1, 0));
        out.push(plain(JUMP, section.len() as u32));
        out.extend(section);
    }
    out.push(plain(RETURN, KILL_PROCESS));
    out
}

fn section(architecture: Architecture, default: u32, rules: &[Rule<'_>]) -> Vec<SockFilter> {
    let answers = answers(architecture, default, rules);
    let mut out = vec![plain(LOAD, OFFSET_NUMBER)];
    if architecture == Architecture::X86_64 {
        out.push(jump(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1));
        out.push(plain(RETURN, KILL_PROCESS));
    }
    if let Some(&last) = answers.keys().next_back()
        && default & 0xffff_0000 == ERRNO
    {
        out.push(jump(JUMP_GREATER, last, 0, 1));
        out.push(plain(RETURN, ERRNO | libc::ENOSYS as u32));
    }
    search(&ranges(answers, default), &mut out);
    out
}

/// What happens for each number that a rule names.
fn answers<'a>(architecture: Architecture, default: u32, rules: &'a [Rule<'_>]) -> BTreeMap<u32, Answer<'a>> {
    let mut plain: BTreeMap<u32, u32> = BTreeMap::new();
    let mut conditional: BTreeMap<u32, Vec<(&[Condition], u32)>> = BTreeMap::new();
    for rule in rules {
        for number in rule.names.iter().filter_map(|name| number(name, architecture)) {
            if rule.conditions.is_empty() {
                plain.entry(number).or_insert(rule.action);
            } else {
                conditional.entry(number).or_default().push((&rule.conditions, rule.action));
            }
        }
    }
    let mut numbers: Vec<u32> = plain.keys().chain(conditional.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
        .into_iter()
        .map(|number| {
            let otherwise = plain.get(&number).copied().unwrap_or(default);
            (number, Answer { conditional: conditional.remove(&number).unwrap_or_default(), otherwise })
        })
        .collect()
}

/// Ranges of numbers with the same answer, by their first number, from 0 on.
fn ranges<'a>(answers: BTreeMap<u32, Answer<'a>>, default: u32) -> Vec<(u32, Answer<'a>)> {
    let none = Answer { conditional: Vec::new(), otherwise: default };
    let mut ranges: Vec<(u32, Answer<'a>)> = Vec::new();
    let mut push = |first: u32, answer: Answer<'a>| match ranges.last_mut() {
        Some((start, last)) if *start == first => *last = answer,
        Some((_, last)) if *last == answer => {}
        _ => ranges.push((first, answer)),
    };
    push(0, none.clone());
    for (number, answer) in answers {
        push(number, answer);
        push(number + 1, none.clone());
    }
    // Neighbours that became equal when one of them was replaced.
    ranges.dedup_by(|b, a| a.1 == b.1);
    ranges
}

/// Emits the search for the number in the accumulator.
fn search(ranges: &[(u32, Answer<'_>)], out: &mut Vec<SockFilter>) {
    let Some((_, only)) = ranges.first().filter(|_| ranges.len() < 2) else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let Some((first, _)) = high.first() else { return };
        let at = out.len();
        out.push(jump(JUMP_GREATER_OR_EQUAL, *first, 0, 0));
        search(low, out);
        let skip = out.len() - at - 1;
        match u8::try_from(skip) {
            Ok(skip) => out[at].jt = skip,
            // Conditional jumps reach 255 instructions; a plain one reaches all.
            Err(_) => {
                out[at].jf = 1;
                out.insert(at + 1, plain(JUMP, skip as u32));
            }
        }
        return search(high, out);
    };
    for (conditions, action) in &only.conditional {
        clause(conditions, *action, out);
    }
    out.push(plain(RETURN, only.otherwise));
}

/// Where a jump inside a clause goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// The end of this condition, which holds.
    Holds,
    /// The end of the clause, which does not apply.
    Fails,
}

/// Emits: return `action` if all `conditions` hold. At most 6 conditions of at most 6 instructions, so
/// all jumps are short.
fn clause(conditions: &[Condition], action: u32, out: &mut Vec<SockFilter>) {
    let mut code: Vec<(SockFilter, To, To, usize)> = Vec::new();
    for condition in conditions {
        let steps = steps(condition);
        let end = code.len() + steps.len();
        code.extend(steps.into_iter().map(|(filter, yes, no)| (filter, yes, no, end)));
    }
    let fails = code.len() + 1;
    for (at, (mut filter, yes, no, end)) in code.into_iter().enumerate() {
        let skip = |to: To| match to {
            To::Next => 0,
            To::Holds => end - at - 1,
            To::Fails => fails - at - 1,
        };
        filter.jt = skip(yes) as u8;
        filter.jf = skip(no) as u8;
        out.push(filter);
    }
    out.push(plain(RETURN, action));
}

/// The instructions that test one argument: first its high half, then its low half.
fn steps(condition: &Condition) -> Vec<(SockFilter, To, To)> {
    use To::{Fails, Holds, Next};
    let low_at = OFFSET_ARGS + 8 * condition.argument as u32;
    let load = |offset| (plain(LOAD, offset), Next, Next);
    let test = |code, k, yes, no| (plain(code, k), yes, no);
    let (low, high) = (|v: u64| v as u32, |v: u64| (v >> 32) as u32);
    let (head, tail) = (load(low_at + 4), load(low_at));
    match condition.test {
        Test::Equal(v) => {
            vec![head, test(JUMP_EQUAL, high(v), Next, Fails), tail, test(JUMP_EQUAL, low(v), Next, Fails)]
        }
        Test::NotEqual(v) => {
            vec![head, test(JUMP_EQUAL, high(v), Next, Holds), tail, test(JUMP_EQUAL, low(v), Fails, Next)]
        }
        Test::Greater(v) => vec![
            head,
            test(JUMP_GREATER, high(v), Holds, Next),
            test(JUMP_EQUAL, high(v), Next, Fails),
            tail,
            test(JUMP_GREATER, low(v), Next, Fails),
        ],
        Test::GreaterOrEqual(v) => vec![
            head,
            test(JUMP_GREATER, high(v), Holds, Next),
            test(JUMP_EQUAL, high(v), Next, Fails),
            tail,
            test(JUMP_GREATER_OR_EQUAL, low(v), Next, Fails),
        ],
        Test::Less(v) => vec![
            head,
            test(JUMP_GREATER, high(v), Fails, Next),
            test(JUMP_EQUAL, high(v), Next, Holds),
            tail,
            test(JUMP_GREATER_OR_EQUAL, low(v), Fails, Next),
        ],
        Test::LessOrEqual(v) => vec![
            head,
            test(JUMP_GREATER, high(v), Fails, Next),
            test(JUMP_EQUAL, high(v), Next, Holds),
            tail,
            test(JUMP_GREATER, low(v), Fails, Next),
        ],
        Test::Masked { mask, equals } => vec![
            head,
            (plain(AND, high(mask)), Next, Next),
            test(JUMP_EQUAL, high(equals), Next, Fails),
            tail,
            (plain(AND, low(mask)), Next, Next),
            test(JUMP_EQUAL, low(equals), Next, Fails),
        ],
    }
}

#[cfg(test)]
mod tests;
