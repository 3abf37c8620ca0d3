//! `kitctl`: asks PID 1, prints what it answers.

use crate::control::{Answer, PATH, Request};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

const HELP: &str = "\
kitctl talks to PID 1 of this node.

  kitctl [--json] list                 services, and where each is
  kitctl [--json] status NAME          one service
  kitctl logs [-f] NAME                what a container printed; -f goes on
  kitctl start|stop|restart NAME       a service
  kitctl poweroff | reboot             the node

Exit codes: 0 done, 1 it could not be done, 2 not understood.
";

/// What the arguments ask.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    request: Request,
    json: bool,
}

/// Asks what the arguments say.
pub fn main(args: Vec<String>) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h" || arg == "help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let asked = match parse(&args) {
        Ok(asked) => asked,
        Err(why) => {
            eprint!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match ask(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: ask PID 1 at {PATH}\ncaused by: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Asked, String> {
    let mut json = false;
    let mut follow = false;
    let mut words = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--json" => json = true,
            "-f" | "--follow" => follow = true,
            flag if flag.starts_with('-') => return Err(format!("unknown flag `{flag}`")),
            word => words.push(word),
        }
    }
    let request = match words.as_slice() {
        ["list" | "ls"] => Request::List,
        ["status", name] => Request::Status { name: (*name).into() },
        ["logs", name] => Request::Logs { name: (*name).into(), follow },
        ["restart", name] => Request::Restart { name: (*name).into() },
        ["stop", name] => Request::Stop { name: (*name).into() },
        ["start", name] => Request::Start { name: (*name).into() },
        ["poweroff"] => Request::Poweroff,
        ["reboot"] => Request::Reboot,
        [] => return Err("what is to be done?".into()),
        words => return Err(format!("`{}` is not understood", words.join(" "))),
    };
    if follow && !matches!(request, Request::Logs { .. }) {
        return Err("only logs can be followed".into());
    }
    Ok(Asked { request, json })
}

fn ask(asked: &Asked) -> io::Result<bool> {
    let mut stream = UnixStream::connect(PATH)?;
    let mut line = serde_json::to_vec(&asked.request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut out = io::stdout().lock();
    let single = !matches!(asked.request, Request::List | Request::Logs { .. });
    if asked.request == Request::List && !asked.json {
        writeln!(out, "{:<20} {:<10} {:>7} {:>8}", "SERVICE", "STATUS", "PID", "RESTARTS")?;
    }
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match serde_json::from_str::<Answer>(&line)? {
            Answer::Done => return Ok(true),
            Answer::Error { why } => {
                eprintln!("error: {why}");
                return Ok(false);
            }
            _ if asked.json => writeln!(out, "{line}")?,
            Answer::Log { text } => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Answer::Service { name, status, pid, restarts, why } => {
                let pid = if pid == 0 { "-".to_owned() } else { pid.to_string() };
                writeln!(
                    out,
                    "{}",
                    format!("{name:<20} {status:<10} {pid:>7} {restarts:>8}  {why}").trim_end()
                )?;
            }
        }
        if single {
            return Ok(true);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Asked, String> {
        parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_requests() {
        let request = Request::Logs { name: "web".into(), follow: true };
        assert_eq!(parsed("logs -f web"), Ok(Asked { request, json: false }));
        assert_eq!(parsed("--json list"), Ok(Asked { request: Request::List, json: true }));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(parsed("explode now").unwrap_err(), "`explode now` is not understood");
        assert_eq!(parsed("list --wide").unwrap_err(), "unknown flag `--wide`");
        assert_eq!(parsed("stop -f web").unwrap_err(), "only logs can be followed");
    }
}
