//! Bytes of the smallest node's initrd: the root with PID 1, the engine, the network and the modules. The kernel's own
//! file lies beside it.

use kit_spec::artifact::Format;
use qemu_tests::Kitbuild;
use qemu_tests::bench::Table;
use std::error::Error;

const MIB: f64 = 1024.0 * 1024.0;
const LIMIT_MIB: f64 = 12.0;

pub fn measure(kitbuild: &Kitbuild, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let built = kitbuild.build(&qemu_tests::workspace().join("yaml/minimal.yml"), Format::KernelInitrd)?;
    let size = |end: &str| {
        let file = built.artifact.files.iter().find(|file| file.path.ends_with(end));
        file.map(|file| file.size as f64 / MIB).ok_or_else(|| format!("the artifact has no file *{end}"))
    };
    table.figure("yaml/minimal.yml, initrd", size("-initrd.img")?, Some(LIMIT_MIB), "MiB");
    table.figure("  the kernel beside it", size("-kernel")?, None, "MiB");
    Ok(())
}
