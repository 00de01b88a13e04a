//! The C header is C99 and C++, and says the same as its mirror in Rust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;
use vws_plugin_api::abi::{ABI, ENTRY_SYMBOL, HostServices, MAX_FDS, Plugin, ReplyBuffer};

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

fn compile(compiler: &str, args: &[&str], source: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (folder.join(name), folder.join(format!("{name}.out")));
    std::fs::write(&file, source).unwrap();
    let out = Command::new(compiler)
        .args(args)
        .args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(include())
        .arg(&file)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    program
}

#[test]
fn the_layout_is_the_same_on_both_sides() {
    let mut expected = String::new();
    let mut source = String::from("#include \"vws_plugin.h\"\n#include <stdio.h>\nint main(void) {\n");
    let mut size = |structure: &str, size: usize| {
        writeln!(source, "printf(\"{structure} %lu\\n\", (unsigned long)sizeof(struct {structure}));").unwrap();
        writeln!(expected, "{structure} {size}").unwrap();
    };
    size("vws_host", size_of::<HostServices>());
    size("vws_reply", size_of::<ReplyBuffer>());
    size("vws_plugin", size_of::<Plugin>());
    let mut offset = |structure: &str, member: &str, offset: usize| {
        writeln!(source, "printf(\"{structure}.{member} %lu\\n\", (unsigned long)offsetof(struct {structure}, {member}));")
            .unwrap();
        writeln!(expected, "{structure}.{member} {offset}").unwrap();
    };
    offset("vws_host", "struct_size", offset_of!(HostServices, struct_size));
    offset("vws_host", "ctx", offset_of!(HostServices, ctx));
    offset("vws_host", "emit", offset_of!(HostServices, emit));
    offset("vws_reply", "struct_size", offset_of!(ReplyBuffer, struct_size));
    offset("vws_reply", "data", offset_of!(ReplyBuffer, data));
    offset("vws_reply", "len", offset_of!(ReplyBuffer, len));
    offset("vws_reply", "owner", offset_of!(ReplyBuffer, owner));
    offset("vws_reply", "nfds", offset_of!(ReplyBuffer, nfds));
    offset("vws_reply", "fds", offset_of!(ReplyBuffer, fds));
    offset("vws_plugin", "struct_size", offset_of!(Plugin, struct_size));
    offset("vws_plugin", "abi", offset_of!(Plugin, abi));
    offset("vws_plugin", "reserved", offset_of!(Plugin, reserved));
    offset("vws_plugin", "name", offset_of!(Plugin, name));
    offset("vws_plugin", "version", offset_of!(Plugin, version));
    offset("vws_plugin", "open", offset_of!(Plugin, open));
    offset("vws_plugin", "call", offset_of!(Plugin, call));
    offset("vws_plugin", "cancel", offset_of!(Plugin, cancel));
    offset("vws_plugin", "release", offset_of!(Plugin, release));
    offset("vws_plugin", "close", offset_of!(Plugin, close));
    source.push_str("printf(\"abi %u\\nfds %d\\n\", VWS_PLUGIN_ABI, VWS_PLUGIN_MAX_FDS);\nreturn 0;\n}\n");
    writeln!(expected, "abi {ABI}\nfds {MAX_FDS}").unwrap();
    let program = compile("cc", &["-std=c99"], &source, "layout.c");
    let out = Command::new(program).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), expected);
}

#[test]
fn the_header_is_cplusplus_and_its_types_are_the_documented_ones() {
    // Assigning functions of exactly these types fails to compile when one of them changes.
    let source = r#"
#include "vws_plugin.h"
extern "C" int32_t open_(const vws_host *, const uint8_t *, size_t, void **, vws_reply *);
extern "C" int32_t call_(void *, const uint8_t *, size_t, const int32_t *, uint32_t, vws_reply *);
extern "C" void cancel_(void *, const uint8_t *, size_t);
extern "C" void release_(vws_reply *);
extern "C" void close_(void *);
int main() {
    vws_plugin plugin = vws_plugin();
    int32_t (*open)(const vws_host *, const uint8_t *, size_t, void **, vws_reply *) = plugin.open;
    int32_t (*call)(void *, const uint8_t *, size_t, const int32_t *, uint32_t, vws_reply *) = plugin.call;
    void (*cancel)(void *, const uint8_t *, size_t) = plugin.cancel;
    void (*release)(vws_reply *) = plugin.release;
    void (*close)(void *) = plugin.close;
    const vws_plugin *(*entry)(void) = 0 ? vws_plugin_entry : 0;
    return open || call || cancel || release || close || entry;
}
"#;
    let program = compile("c++", &["-std=c++11", "-O2"], source, "header.cpp");
    assert!(Command::new(program).status().unwrap().success());
}

#[test]
fn the_entry_symbol_is_the_headers() {
    let header = std::fs::read_to_string(include().join("vws_plugin.h")).unwrap();
    assert!(header.contains(&format!("const struct vws_plugin *{ENTRY_SYMBOL}(void);")));
}
