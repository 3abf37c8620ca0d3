use super::*;
use proptest::prelude::*;

/// A system call as the kernel shows it to a filter.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel would; panics on what its verifier refuses.
fn run(program: &[SockFilter], call: &Call) -> u32 {
    let word = |offset: u32| match offset {
        OFFSET_NUMBER => call.number,
        OFFSET_ARCH => call.arch,
        16..64 => {
            let arg = call.args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        _ => panic!("offset {offset} is not used"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let i = program[at];
        at += 1;
        let skip = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            LOAD => accumulator = word(i.k),
            AND => accumulator &= i.k,
            RETURN => return i.k,
            JUMP => at += i.k as usize,
            JUMP_EQUAL => at += skip(accumulator == i.k),
            JUMP_GREATER => at += skip(accumulator > i.k),
            JUMP_GREATER_OR_EQUAL => at += skip(accumulator >= i.k),
            code => panic!("operation {code:#x} is not used"),
        }
    }
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let arg = call.args[condition.argument];
    match condition.test {
        Test::NotEqual(v) => arg != v,
        Test::Less(v) => arg < v,
        Test::LessOrEqual(v) => arg <= v,
        Test::Equal(v) => arg == v,
        Test::GreaterOrEqual(v) => arg >= v,
        Test::Greater(v) => arg > v,
        Test::Masked { mask, equals } => arg & mask == equals,
    }
}

/// What the rules mean, said directly.
fn expected(default: u32, rules: &[Rule<'_>], call: &Call) -> u32 {
    let named =
        |rule: &&Rule<'_>| rule.names.iter().any(|n| number(n, Architecture::X86_64) == Some(call.number));
    let highest = rules.iter().flat_map(|r| r.names).filter_map(|n| number(n, Architecture::X86_64)).max();
    if highest.is_some_and(|h| call.number > h) && default & 0xffff_0000 == ERRNO {
        return ERRNO | libc::ENOSYS as u32;
    }
    let mut of_call = rules.iter().filter(named);
    let conditional = rules
        .iter()
        .filter(named)
        .find(|r| !r.conditions.is_empty() && r.conditions.iter().all(|c| holds(c, call)));
    conditional.or(of_call.find(|r| r.conditions.is_empty())).map_or(default, |r| r.action)
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        Just(u64::MAX),
        Just(u32::MAX.into()),
        Just(1 << 32),
        Just((1 << 32) + 1),
        any::<u64>()
    ]
}

fn any_test() -> impl Strategy<Value = Test> {
    (0..7, any_value(), any_value()).prop_map(|(kind, v, w)| match kind {
        0 => Test::NotEqual(v),
        1 => Test::Less(v),
        2 => Test::LessOrEqual(v),
        3 => Test::Equal(v),
        4 => Test::GreaterOrEqual(v),
        5 => Test::Greater(v),
        _ => Test::Masked { mask: v, equals: w & v },
    })
}

fn any_names() -> impl Strategy<Value = Vec<String>> {
    const SOME: [&str; 9] =
        ["read", "write", "open", "clone", "clone3", "ptrace", "socket", "mseal", "no_such_call"];
    prop::collection::vec(prop::sample::select(&SOME[..]).prop_map(str::to_owned), 1..5)
}

fn any_conditions() -> impl Strategy<Value = Vec<Condition>> {
    prop::collection::btree_map(0_usize..6, any_test(), 0..7)
        .prop_map(|map| map.into_iter().map(|(argument, test)| Condition { argument, test }).collect())
}

proptest! {
    #[test]
    fn the_program_decides_as_the_rules_say(
        parts in prop::collection::vec((any_names(), any_conditions(), 0_u32..4), 0..40),
        default in prop::sample::select(&[ALLOW, ERRNO | 1, 0][..]),
        number in prop_oneof![0_u32..470, Just(56), Just(435), Just(0), Just(1), Just(462)],
        args in prop::array::uniform6(any_value()),
    ) {
        let rules: Vec<Rule<'_>> = parts
            .iter()
            .map(|(names, conditions, action)| Rule {
                names,
                conditions: conditions.clone(),
                action: ERRNO | (100 + action),
            })
            .collect();
        let call = Call { number, arch: Architecture::X86_64.audit(), args };
        let program = compile(&[Architecture::X86_64], default, &rules);
        prop_assert_eq!(run(&program, &call), expected(default, &rules, &call));
    }
}

fn call(number: u32, arch: Architecture) -> Call {
    Call { number, arch: arch.audit(), args: [0; 6] }
}

#[test]
fn each_architecture_has_its_own_numbers_and_others_are_killed() {
    let names = vec!["read".to_owned()];
    let rules = [Rule { names: &names, conditions: Vec::new(), action: ALLOW }];
    let program = compile(&[Architecture::X86_64, Architecture::X86], 0, &rules);
    assert_eq!(run(&program, &call(0, Architecture::X86_64)), ALLOW);
    assert_eq!(run(&program, &call(3, Architecture::X86)), ALLOW);
    assert_eq!(run(&program, &call(3, Architecture::X86_64)), 0);
    assert_eq!(run(&program, &call(63, Architecture::Aarch64)), KILL_PROCESS);
    assert_eq!(run(&program, &call(X32_BIT, Architecture::X86_64)), KILL_PROCESS);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let names = vec!["read".to_owned(), "clone3".to_owned()];
    let rules = [Rule { names: &names, conditions: Vec::new(), action: ALLOW }];
    let program = compile(&[Architecture::X86_64], ERRNO | 1, &rules);
    assert_eq!(run(&program, &call(434, Architecture::X86_64)), ERRNO | 1);
    assert_eq!(run(&program, &call(436, Architecture::X86_64)), ERRNO | libc::ENOSYS as u32);
}

#[test]
fn jumps_over_more_than_255_instructions_are_right() {
    let all: Vec<String> =
        ["read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap"]
            .iter()
            .map(|&n| n.to_owned())
            .collect();
    let conditions: Vec<Condition> =
        (0..6).map(|argument| Condition { argument, test: Test::Masked { mask: 1, equals: 1 } }).collect();
    let rules: Vec<Rule<'_>> = (0..10)
        .flat_map(|n| {
            let conditions = conditions.clone();
            [Rule { names: &all[n..=n], conditions, action: ERRNO | n as u32 }]
        })
        .collect();
    let program = compile(&[Architecture::X86_64], ALLOW, &rules);
    assert!(program.len() > 300);
    for number in 0..12 {
        let mut call = call(number, Architecture::X86_64);
        assert_eq!(run(&program, &call), ALLOW);
        call.args = [1; 6];
        assert_eq!(run(&program, &call), if number < 10 { ERRNO | number } else { ALLOW });
    }
}
