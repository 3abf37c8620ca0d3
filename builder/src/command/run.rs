//! `kitbuild run`: build, boot, watch.

use super::build::{Order, make};
use super::setup::{self, Files};
use crate::cli::{Global, RunArgs};
use crate::report::{Report, Style};
use crate::signals::Signals;
use crate::temporary::{Temporary, Watch};
use anyhow::{Context, anyhow, bail};
use kit_machine::console::{Left, Relay, relay};
use kit_machine::qemu::{OnReboot, QemuOptions};
use kit_machine::{Exit, Monitor, Running};
use kit_spec::artifact::{Artifact, Boot, Firmware, Format};
use kit_spec::machine::{Disk, DiskFormat, Machine, MachineError, Medium, Name, Net, Options};
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// What `timeout` ends with.
const TIMED_OUT: u8 = 124;

pub fn run(global: &Global, args: RunArgs, report: &Report, watch_build: Watch) -> anyhow::Result<ExitCode> {
    let given = given_artifact(&args)?;
    let name = machine_name(&args, given.as_ref().map(|(artifact, _)| artifact))?;
    // What cannot be is said before minutes are spent on building.
    check(&args, &name, given.as_ref().map(|(artifact, _)| artifact.format))?;
    let (artifact, dir, built) = match given {
        Some((artifact, dir)) => (artifact, dir, None),
        None => {
            let temporary = std::env::temp_dir();
            let built = Temporary::dir(&temporary, "kitbuild-run")
                .with_context(|| format!("make a directory in {}", temporary.display()))?;
            (build(global, &args, built.path(), report)?, built.path().to_owned(), Some(built))
        }
    };
    let machine = machine(&args, name, &artifact, &dir)?;
    let monitor = Monitor::Qemu(QemuOptions { on_reboot: OnReboot::Restart, ..QemuOptions::default() });
    let mut signals = Signals::take().context("prepare for ctrl-C")?;
    let told = signals.readable().context("prepare for ctrl-C")?;
    // From here on a signal ends the machine first.
    drop(watch_build);
    let running =
        kit_machine::launch(&machine, &monitor).with_context(|| format!("boot {}", machine.name))?;
    // A machine that runs has everything open or in memory: what was built for it alone needs its names no more,
    // and so is never left behind, however this process or the machine ends.
    drop(built);
    if args.detach {
        let name = running.name().clone();
        running.detach().with_context(|| format!("leave {name} running"))?;
        report.result(
            &format!("{name} runs: `kitbuild console {name}`, `kitbuild stop {name}`"),
            json!({"event": "detached", "name": name}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    watch(running, &signals, told, args.timeout.map(Duration::from_secs), report)
}

fn given_artifact(args: &RunArgs) -> anyhow::Result<Option<(Artifact, PathBuf)>> {
    let [path] = args.files.as_slice() else { return Ok(None) };
    if path.extension().is_none_or(|end| end != "json") {
        return Ok(None);
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let artifact = Artifact::parse(&text).with_context(|| format!("read {}", path.display()))?;
    let dir = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    for file in &artifact.files {
        // One that is missing is told when it is to be opened, with what it is for.
        let found = fs::metadata(dir.join(&file.path)).map(|meta| meta.len()).unwrap_or(file.size);
        if found != file.size {
            let (name, size) = (&file.path, file.size);
            bail!("{name} has {found} bytes, and {} says {size}: build it again", path.display());
        }
    }
    Ok(Some((artifact, dir.to_owned())))
}

/// The format that is built.
fn format(args: &RunArgs) -> Format {
    match args.format {
        Some(format) => format,
        None if args.iso || args.as_disk => Format::Iso,
        None if args.uefi => Format::RawEfi,
        None => Format::KernelInitrd,
    }
}

fn machine_name(args: &RunArgs, artifact: Option<&Artifact>) -> Result<Name, MachineError> {
    match (&args.name, artifact) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(artifact)) => called(&artifact.name),
        (None, None) => called(&setup::name_of(args.files.first().map(PathBuf::as_path))),
    }
}

fn check(args: &RunArgs, name: &Name, given: Option<Format>) -> anyhow::Result<()> {
    let format = given.unwrap_or_else(|| format(args));
    if format == Format::Tar {
        return Err(MachineError::NotBootable { format }.into());
    }
    if args.uefi && matches!(format, Format::KernelInitrd | Format::KernelSquashfs) {
        bail!("{format} hands its kernel to the monitor: UEFI boots --format iso or raw-efi");
    }
    for disk in &args.disk {
        disk.check()?;
    }
    let running = kit_machine::list().context("list machines")?;
    if let Some(other) = running.iter().find(|listed| listed.machine.name == *name) {
        bail!("a machine `{name}` runs already, as process {}: --name gives this one another", other.pid);
    }
    Ok(())
}

fn build(global: &Global, args: &RunArgs, out: &Path, report: &Report) -> anyhow::Result<Artifact> {
    let files = Files::read(&args.files, report)?;
    let format = format(args);
    let order =
        Order { name: files.output_name()?, formats: &[format], out, pins: &args.pins, how: &args.how };
    let (artifact, _) =
        make(global, &files, &order, report)?.pop().ok_or_else(|| anyhow!("nothing was built"))?;
    Ok(artifact)
}

fn machine(args: &RunArgs, name: Name, artifact: &Artifact, dir: &Path) -> anyhow::Result<Machine> {
    let mut disks = Vec::new();
    for disk in &args.disk {
        disks.push(disk.make()?);
    }
    let by_kernel = matches!(artifact.boot, Boot::Kernel { .. });
    let options = Options {
        name,
        cpus: args.cpus,
        memory_mib: args.mem,
        disks,
        nets: vec![Net::User { publish: args.publish.clone() }],
        firmware: (args.uefi && !by_kernel).then_some(Firmware::Uefi),
        medium: args.as_disk.then_some(Medium::Disk),
    };
    Ok(Machine::new(artifact, dir, options)?)
}

/// An artifact's name, with dashes for what a machine's name cannot hold.
fn called(artifact: &str) -> Result<Name, MachineError> {
    let plain = artifact.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => '-',
    });
    plain.take(63).collect::<String>().parse()
}

/// A disk on the command line: `PATH[,format=raw|qcow2][,readonly][,size=10G]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskArg {
    disk: Disk,
    /// How large it is made if it is missing, in bytes.
    size: Option<u64>,
}

impl FromStr for DiskArg {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<DiskArg> {
        let mut words = word.split(',');
        let path = PathBuf::from(words.next().unwrap_or_default());
        let (mut format, mut readonly, mut size) = (DiskFormat::Raw, false, None);
        for option in words {
            match option.split_once('=') {
                Some(("format", "raw")) => format = DiskFormat::Raw,
                Some(("format", "qcow2")) => format = DiskFormat::Qcow2,
                Some(("size", text)) => size = Some(bytes(text)?),
                None if option == "readonly" => readonly = true,
                _ => bail!("`{option}` is none of format=raw, format=qcow2, readonly, size=SIZE"),
            }
        }
        if path.as_os_str().is_empty() {
            bail!("a disk is a file: write its path first");
        }
        if size.is_some() && format != DiskFormat::Raw {
            bail!("only a raw disk is made; `qemu-img create -f qcow2` makes the other");
        }
        Ok(DiskArg { disk: Disk { path, format, readonly }, size })
    }
}

impl DiskArg {
    /// That the disk is there or will be made.
    fn check(&self) -> anyhow::Result<()> {
        if self.size.is_none() {
            let path = &self.disk.path;
            fs::metadata(path).with_context(|| format!("open the disk {}", path.display()))?;
        }
        Ok(())
    }

    /// The disk, made if it is missing.
    fn make(&self) -> anyhow::Result<Disk> {
        let path = &self.disk.path;
        if let (Some(size), false) = (self.size, path.exists()) {
            let made = File::create_new(path).and_then(|file| file.set_len(size));
            made.with_context(|| format!("create {}", path.display()))?;
        }
        Ok(self.disk.clone())
    }
}

fn bytes(text: &str) -> anyhow::Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| anyhow!("`{text}` is not a size: write a number of bytes, or 512M, 10G"))
}

fn watch(
    running: Running,
    signals: &Signals,
    told: OwnedFd,
    timeout: Option<Duration>,
    report: &Report,
) -> anyhow::Result<ExitCode> {
    // The clock ends the run as a signal does, by something that becomes readable.
    let timer = timeout.map(timer).transpose().context("set the timeout")?;
    let both = join(told, timer).context("wait for the end")?;
    let mut console = running.console();
    let (input, output, beside) = (io::stdin(), io::stdout(), io::stderr());
    let ends = Relay {
        input: input.as_fd(),
        // Standard output is for objects then.
        output: if report.style() == Style::Json { beside.as_fd() } else { output.as_fd() },
        escape: Relay::ESCAPE,
        cancel: Some(both.any()),
    };
    let left = relay(&mut console, ends).context("the console")?;
    match left {
        Left::Ended => match running.wait(Duration::from_secs(10)).context("wait for the machine")? {
            Exit::PowerOff | Exit::Quit => Ok(ExitCode::SUCCESS),
            exit => Err(anyhow!("{exit}")),
        },
        Left::Escape => {
            running.kill().context("end the machine")?;
            Ok(ExitCode::SUCCESS)
        }
        Left::Cancelled => {
            let timed_out = both.timed_out();
            running.kill().context("end the machine")?;
            if timed_out {
                report.warning("the machine was ended: its time is over");
            }
            Ok(if timed_out { ExitCode::from(TIMED_OUT) } else { signals.exit_code() })
        }
    }
}

fn timer(after: Duration) -> io::Result<OwnedFd> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Timespec::try_from(after.max(Duration::from_millis(1))).unwrap_or(zero);
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value: value })?;
    Ok(timer)
}

/// Two descriptors as one: readable when one of them is.
struct Either {
    poll: OwnedFd,
    timer: Option<OwnedFd>,
    _told: OwnedFd,
}

fn join(told: OwnedFd, timer: Option<OwnedFd>) -> io::Result<Either> {
    use rustix::event::epoll;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &told, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    if let Some(timer) = &timer {
        epoll::add(&poll, timer, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
    }
    Ok(Either { poll, timer, _told: told })
}

impl Either {
    fn any(&self) -> std::os::fd::BorrowedFd<'_> {
        self.poll.as_fd()
    }

    fn timed_out(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.timer
            .as_ref()
            .is_some_and(|timer| poll(&mut [PollFd::new(timer, PollFlags::IN)], Some(&now)) == Ok(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused() {
        assert_eq!(bytes("10G").unwrap(), 10 << 30);
        assert_eq!(bytes("512").unwrap(), 512);
        for wrong in ["", "G", "1.5G", "99999999999999T", "-1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_machine_is_called_as_its_artifact_is_as_far_as_that_goes() {
        assert_eq!(called("node-1.2").unwrap().as_str(), "node-1.2");
        assert_eq!(called("my größte").unwrap().as_str(), "my-gr--te");
        assert_eq!(called(&"x".repeat(200)).unwrap().as_str().len(), 63);
    }

    #[test]
    fn a_disk_says_what_it_does_not_understand() {
        let error = |word: &str| word.parse::<DiskArg>().unwrap_err().to_string();
        assert_eq!(
            error("x.img,frmat=raw"),
            "`frmat=raw` is none of format=raw, format=qcow2, readonly, size=SIZE"
        );
        assert_eq!(error(",readonly"), "a disk is a file: write its path first");
        let disk: DiskArg = "x.img,size=1M,readonly".parse().unwrap();
        assert_eq!((disk.size, disk.disk.readonly), (Some(1 << 20), true));
    }
}
