//! What follows the list of options in each command's help.

pub(super) const ALL: &str = "\
`kitbuild node.yml` is `kitbuild build node.yml`.

Examples:
  kitbuild node.yml                             kernel, initrd and command line, here
  kitbuild build -f iso,raw-efi -o out node.yml an ISO and a disk image, in out/
  kitbuild run node.yml --publish 8080:80       build it, boot it in QEMU, reach its port 80
  kitbuild lock node.yml                        pin and fetch every input

It ends with 0, with 1 after an error, with 2 if the command line is wrong.";

pub(super) const BUILD: &str = "\
Examples:
  kitbuild build node.yml                       kernel+initrd, here
  kitbuild build -f iso,raw-efi --dir out node.yml
  kitbuild build base.yml site.yml --name web   two files, merged
  kitbuild build --dry-run base.yml site.yml    what they come to
  sed s/eth0/eth1/ node.yml | kitbuild build -  from standard input
  kitbuild build --locked --offline node.yml    only what node.lock pins and the store has";

pub(super) const RUN: &str = "\
Examples:
  kitbuild run node.yml                         ctrl-] leaves
  kitbuild run node.yml --publish 8080:80 --mem 512 --cpus 1
  kitbuild run node.yml --iso --uefi            the ISO, booted by UEFI
  kitbuild run node.yml --disk data.img,size=1G a disk, made if it is missing
  kitbuild run node.yml --detach --name n1      then: kitbuild console n1, kitbuild stop n1
  kitbuild run out/node.iso.artifact.json       what was built before

It ends with 0 if the machine powered off, 124 after --timeout, 130 after ctrl-C outside a terminal.";

pub(super) const STOP: &str = "\
Examples:
  kitbuild stop n1
  kitbuild stop n1 --grace 120                  a node that takes its time";

pub(super) const CHECK: &str = "\
Examples:
  kitbuild check node.yml                       mistakes with file, line, column, rule and hint
  kitbuild check --json base.yml site.yml       the two together, for a program";

pub(super) const LOCK: &str = "\
Examples:
  kitbuild lock node.yml                        writes node.lock beside it
  kitbuild lock --update node.yml               newer images and packages
  kitbuild lock --arch arm64 node.yml           adds pins for another architecture";

pub(super) const SCHEMA: &str = "\
Examples:
  kitbuild schema >kit.schema.json              then, in a node file's first line:
                                                # yaml-language-server: $schema=kit.schema.json";

pub(super) const INSPECT: &str = "\
Examples:
  kitbuild inspect node.yml                     the node as it is understood, as JSON
  kitbuild inspect node.iso.artifact.json       the files of an artifact, with their digests";

pub(super) const CACHE: &str = "\
Examples:
  kitbuild cache pull alpine:3.20               an image for linux/amd64
  kitbuild cache pull --all-platforms alpine:3.20
  kitbuild cache import image.tar --name team/tool:1
  kitbuild cache ls --json | jq -r .name
  kitbuild cache rm alpine:3.20
  kitbuild cache clean                          what no image needs, and what is derived";

pub(super) const IMAGE: &str = "\
Examples:
  kitbuild image ls
  kitbuild image inspect nginx                  its packages, size and configuration
  kitbuild image build nginx                    kit/nginx, in the store
  kitbuild image build ./tool --tag registry.example/team/tool:1 --out tool.tar
  kitbuild image build deb:curl --tag team/curl:1
  kitbuild image push nginx registry.example/team/nginx:1";

pub(super) const PS: &str = "\
Examples:
  kitbuild ps                                   name, process, memory, and whose it is
  kitbuild ps --json | jq -r .log               where each one's console is kept";

pub(super) const CONSOLE: &str = "\
Examples:
  kitbuild console n1                           its last lines, then what comes; ctrl-] leaves it running";

pub(super) const FORMATS: &str = "\
Examples:
  kitbuild formats
  kitbuild build -f kernel+initrd,iso node.yml  several at once";

pub(super) const COMPLETION: &str = "\
Examples:
  kitbuild completion bash >/etc/bash_completion.d/kitbuild
  kitbuild completion zsh >~/.zfunc/_kitbuild";
