//! What editors need to help an author: types for Luau's and Lua's language servers, names for selene. All made from `schema`, so
//! that they cannot differ from what scripts see; the copies in `policies/types` are compared with this by a test.

use crate::schema::{DOCUMENTS, Field, Kind};
use std::fmt::Write as _;

/// A function that scripts find: name, parameters as Luau and as LuaCATS write them, result, what it does.
struct Helper {
    name: &'static str,
    parameters: &'static [(&'static str, &'static str, bool)],
    result: &'static str,
    about: &'static str,
}

const HELPERS: [Helper; 4] = [
    Helper {
        name: "permit",
        parameters: &[("code", "string", true), ("text", "string", true)],
        result: "Verdict",
        about: "Go on.",
    },
    Helper {
        name: "deny",
        parameters: &[("code", "string", false), ("text", "string", false)],
        result: "Verdict",
        about: "No: a stable code for machines, a sentence with the numbers for people.",
    },
    Helper {
        name: "restrict",
        parameters: &[("fields", "Restriction", false)],
        result: "Verdict",
        about: "Go on with at most this: name one or more amounts.",
    },
    Helper {
        name: "contains",
        parameters: &[("list", "{ any }", false), ("value", "any", false)],
        result: "boolean",
        about: "Whether the list has the value.",
    },
];

/// The fields of `restrict{...}`.
const RESTRICTION: [(&str, &str); 6] = [
    ("duration_seconds", "number"),
    ("memory_mib", "number"),
    ("vcpus", "number"),
    ("preemptible", "boolean"),
    ("code", "string"),
    ("text", "string"),
];

/// The table that placement.lua returns: member, Luau's type, LuaCATS's type.
const PLACEMENT_MEMBERS: [(&str, &str, &str); 6] = [
    (
        "needs_labels",
        "{ [string]: any } | ((input: PlacementInput) -> { [string]: any }?)",
        "table<string, any>|fun(input: PlacementInput): table<string, any>?",
    ),
    ("rank", "(input: PlacementInput) -> { Term }", "fun(input: PlacementInput): Term[]"),
    ("consider", "number", "number"),
    ("filter", "(input: PlacementInput, host: Host) -> any", "fun(input: PlacementInput, host: Host): any, string?, string?"),
    ("score", "(input: PlacementInput, host: Host) -> number", "fun(input: PlacementInput, host: Host): number"),
    (
        "preempt",
        "boolean | ((input: PlacementInput, host: Host, victims: { Workspace }) -> any)",
        "boolean|fun(input: PlacementInput, host: Host, victims: Workspace[]): any, string?, string?",
    ),
];

/// A ranking's term.
const TERM: [(&str, &str, bool); 7] = [
    ("term", "string", false),
    ("weight", "number", false),
    ("label", "string", true),
    ("value", "string", true),
    ("missing", "number", true),
    ("by", "string", true),
    ("match", "string", true),
];

const HEAD: &str = "made by `vws policy new` from the daemon's schema";

fn luau(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Words(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" | "),
        Kind::Number => "number".to_owned(),
        Kind::Flag => "boolean".to_owned(),
        Kind::Labels => "{ [string]: string }".to_owned(),
        Kind::Names => "{ [string]: boolean }".to_owned(),
        Kind::Texts => "{ string }".to_owned(),
        Kind::Numbers => "{ number }".to_owned(),
        Kind::One(key) => type_name(key).to_owned(),
        Kind::Many(key) => format!("{{ {} }}", type_name(key)),
    }
}

fn type_name(key: &str) -> &'static str {
    DOCUMENTS.iter().find(|document| document.key == key).map_or("any", |document| document.type_name)
}

/// Definitions for luau-lsp (`--definitions`).
#[must_use]
pub fn luau_definitions() -> String {
    let mut out = format!("-- Types of what policies see and may call, for luau-lsp; {HEAD}.\n\n");
    for document in DOCUMENTS {
        let _ = writeln!(out, "-- {}\nexport type {} = {{", document.about, document.type_name);
        for field in document.fields {
            let optional = match (field.optional, field.kind) {
                (true, Kind::Words(_)) => format!("({})?", luau(field.kind)),
                (true, _) => format!("{}?", luau(field.kind)),
                (false, _) => luau(field.kind),
            };
            let _ = writeln!(out, "    {}: {optional}, -- {}", field.name, field.about);
        }
        out.push_str("}\n\n");
    }
    out.push_str(
        "-- What permit(), deny() and restrict{} make.\nexport type Verdict = { kind: number, code: string, text: string }\n\n",
    );
    out.push_str("export type Restriction = {\n");
    for (name, kind) in RESTRICTION {
        let _ = writeln!(out, "    {name}: {kind}?,");
    }
    out.push_str("}\n\n-- A term of a ranking.\nexport type Term = {\n");
    for (name, kind, optional) in TERM {
        let _ = writeln!(out, "    {name}: {kind}{},", if optional { "?" } else { "" });
    }
    out.push_str("}\n\n-- What access.lua, quota.lua and placement.lua return.\n");
    out.push_str("export type AccessPolicy = { decide: (input: AccessInput) -> Verdict }\n");
    out.push_str("export type QuotaPolicy = { decide: (input: QuotaInput) -> Verdict }\n");
    out.push_str("export type PlacementPolicy = {\n");
    for (name, kind, _) in PLACEMENT_MEMBERS {
        let _ = writeln!(out, "    {name}: ({kind})?,");
    }
    out.push_str("}\n\n");
    for helper in &HELPERS {
        let parameters: Vec<String> = helper
            .parameters
            .iter()
            .map(|(name, kind, optional)| format!("{name}: {kind}{}", if *optional { "?" } else { "" }))
            .collect();
        let _ =
            writeln!(out, "-- {}\ndeclare function {}({}): {}", helper.about, helper.name, parameters.join(", "), helper.result);
    }
    out
}

fn cats(kind: Kind) -> String {
    match kind {
        Kind::Words(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("|"),
        Kind::Labels => "table<string, string>".to_owned(),
        Kind::Names => "table<string, boolean>".to_owned(),
        Kind::Texts => "string[]".to_owned(),
        Kind::Numbers => "number[]".to_owned(),
        Kind::Many(key) => format!("{}[]", type_name(key)),
        other => luau(other),
    }
}

fn cats_field(field: &Field) -> String {
    format!("---@field {}{} {} {}\n", field.name, if field.optional { "?" } else { "" }, cats(field.kind), field.about)
}

/// Annotations for LuaLS (`workspace.library`).
#[must_use]
pub fn luacats() -> String {
    let mut out = format!("---@meta vws\n-- Types of what policies see and may call, for LuaLS; {HEAD}.\n\n");
    for document in DOCUMENTS {
        let _ = writeln!(out, "---{}\n---@class (exact) {}", document.about, document.type_name);
        out.extend(document.fields.iter().map(cats_field));
        out.push('\n');
    }
    out.push_str("---What permit(), deny() and restrict{} make.\n---@class Verdict\n\n---@class (exact) Restriction\n");
    for (name, kind) in RESTRICTION {
        let _ = writeln!(out, "---@field {name}? {kind}");
    }
    out.push_str("\n---A term of a ranking.\n---@class (exact) Term\n");
    for (name, kind, optional) in TERM {
        let _ = writeln!(out, "---@field {name}{} {kind}", if optional { "?" } else { "" });
    }
    out.push_str("\n---@class (exact) AccessPolicy\n---@field decide fun(input: AccessInput): Verdict\n");
    out.push_str("\n---@class (exact) QuotaPolicy\n---@field decide fun(input: QuotaInput): Verdict\n");
    out.push_str("\n---@class (exact) PlacementPolicy\n");
    for (name, _, kind) in PLACEMENT_MEMBERS {
        let _ = writeln!(out, "---@field {name}? {kind}");
    }
    for helper in &HELPERS {
        let _ = writeln!(out, "\n---{}", helper.about);
        for (name, kind, optional) in helper.parameters {
            let kind = if *kind == "{ any }" { "any[]" } else { kind };
            let _ = writeln!(out, "---@param {name}{} {kind}", if *optional { "?" } else { "" });
        }
        let names: Vec<&str> = helper.parameters.iter().map(|(name, _, _)| *name).collect();
        let _ = writeln!(out, "---@return {}\nfunction {}({}) end", helper.result, helper.name, names.join(", "));
    }
    out
}

/// The standard library for selene (`std = "vws"`).
#[must_use]
pub fn selene() -> String {
    let mut out = format!("# What policies may call, for selene; {HEAD}.\nbase: luau\nname: vws\nglobals:\n");
    for helper in &HELPERS {
        let _ = writeln!(out, "  {}:\n    args:", helper.name);
        for (_, kind, optional) in helper.parameters {
            let kind = match *kind {
                "Restriction" | "{ any }" => "table",
                kind => kind,
            };
            let _ = writeln!(out, "      - type: {kind}{}", if *optional { "\n        required: false" } else { "" });
        }
        out.push_str("    must_use: true\n");
    }
    out.push_str("  require:\n    args:\n      - type: string\n");
    for gone in ["os", "io", "debug", "coroutine", "buffer", "vector", "loadstring", "getfenv", "setfenv", "print", "math.random"]
    {
        let _ = writeln!(out, "  {gone}:\n    removed: true");
    }
    out
}
