//! A policy folder to begin with: the shipped policies and their tests, and what makes editors and formatters know them.

use crate::stubs;

/// Settings of luau-lsp and Luau itself.
const LUAURC: &str = "{\n    \"languageMode\": \"nonstrict\",\n    \"lint\": { \"*\": true }\n}\n";
/// Settings of LuaLS, and of editors that start luau-lsp by it.
const LUARC: &str = "{\n    \"runtime.version\": \"Lua 5.1\",\n    \"workspace.library\": [\"types\"],\n    \
    \"workspace.checkThirdParty\": false,\n    \"runtime.path\": [\"?.lua\"]\n}\n";
/// Settings of stylua.
const STYLUA: &str = "syntax = \"Luau\"\ncolumn_width = 120\nindent_type = \"Spaces\"\nindent_width = 4\n";
/// Settings of selene.
const SELENE: &str = "std = \"vws\"\n";

/// What editors, formatters and linters need beside the policies: path in the folder, text.
#[must_use]
pub fn editor_files() -> Vec<(&'static str, String)> {
    vec![
        (".luarc.json", LUARC.to_owned()),
        (".luaurc", LUAURC.to_owned()),
        ("selene.toml", SELENE.to_owned()),
        ("stylua.toml", STYLUA.to_owned()),
        ("types/vws.d.luau", stubs::luau_definitions()),
        ("types/vws.lua", stubs::luacats()),
        ("vws.yml", stubs::selene()),
    ]
}

/// A whole policy folder: path in it, text.
#[must_use]
pub fn scaffold() -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("access.lua", include_str!("../../../policies/access.lua").to_owned()),
        ("access_test.lua", include_str!("../../../policies/access_test.lua").to_owned()),
        ("placement.lua", include_str!("../../../policies/placement.lua").to_owned()),
        ("placement_test.lua", include_str!("../../../policies/placement_test.lua").to_owned()),
        ("quota.lua", include_str!("../../../policies/quota.lua").to_owned()),
        ("quota_test.lua", include_str!("../../../policies/quota_test.lua").to_owned()),
    ];
    files.extend(editor_files());
    files
}
