//! The introspection files, one interface each, with prose for every member. The daemon serves these very texts.

/// `org.virtualworkspaces1.Manager`, on the root object.
pub const MANAGER: &str = include_str!("../interfaces/org.virtualworkspaces1.Manager.xml");
/// `org.virtualworkspaces1.Policy`, on the root object.
pub const POLICY: &str = include_str!("../interfaces/org.virtualworkspaces1.Policy.xml");
/// `org.virtualworkspaces1.Workspace`.
pub const WORKSPACE: &str = include_str!("../interfaces/org.virtualworkspaces1.Workspace.xml");
/// `org.virtualworkspaces1.Host`.
pub const HOST: &str = include_str!("../interfaces/org.virtualworkspaces1.Host.xml");
/// `org.virtualworkspaces1.Image`.
pub const IMAGE: &str = include_str!("../interfaces/org.virtualworkspaces1.Image.xml");
/// `org.virtualworkspaces1.Network`.
pub const NETWORK: &str = include_str!("../interfaces/org.virtualworkspaces1.Network.xml");
/// `org.virtualworkspaces1.Job`.
pub const JOB: &str = include_str!("../interfaces/org.virtualworkspaces1.Job.xml");
/// `org.virtualworkspaces1.Backend`.
pub const BACKEND: &str = include_str!("../interfaces/org.virtualworkspaces1.Backend.xml");
/// `org.freedesktop.DBus.ObjectManager` as the root object serves it: filtered by what the caller may see.
pub const OBJECT_MANAGER: &str = include_str!("../interfaces/org.freedesktop.DBus.ObjectManager.xml");

/// Every interface's name and file, those of the root object first.
pub const ALL: [(&str, &str); 9] = [
    (crate::names::OBJECT_MANAGER, OBJECT_MANAGER),
    (crate::names::MANAGER, MANAGER),
    (crate::names::POLICY, POLICY),
    (crate::names::WORKSPACE, WORKSPACE),
    (crate::names::HOST, HOST),
    (crate::names::IMAGE, IMAGE),
    (crate::names::NETWORK, NETWORK),
    (crate::names::JOB, JOB),
    (crate::names::BACKEND, BACKEND),
];

/// The `<interface>` element of a file, for a `<node>` that has several of them.
#[must_use]
pub fn element(file: &'static str) -> &'static str {
    let (Some(begin), Some(end)) = (file.find("  <interface "), file.rfind("</interface>\n")) else { return "" };
    file.get(begin..end + "</interface>\n".len()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::{ALL, element};

    #[test]
    fn every_file_is_one_documented_interface_of_its_name() {
        for (name, file) in ALL {
            let element = element(file);
            assert!(element.starts_with(&format!("  <interface name=\"{name}\">")), "{name}");
            assert!(element.ends_with("  </interface>\n"), "{name}");
            for member in ["interface", "method", "signal", "property", "arg"] {
                for (at, _) in element.match_indices(&format!("<{member} ")) {
                    let after = &element[at..];
                    let next = after.lines().nth(1).unwrap();
                    assert!(next.contains("org.gtk.GDBus.DocString"), "{name}: no prose after {}", after.lines().next().unwrap());
                }
            }
        }
    }

    #[test]
    fn every_property_is_read_only_and_says_when_it_changes() {
        for (name, file) in ALL {
            for property in file.split("<property ").skip(1) {
                let text = property.split("</property>").next().unwrap();
                assert!(text.contains("access=\"read\""), "{name}: {text}");
                assert!(text.contains("org.freedesktop.DBus.Property.EmitsChangedSignal"), "{name}: {text}");
            }
        }
    }

    #[test]
    fn every_method_of_ours_ends_with_options() {
        for (name, file) in ALL.into_iter().filter(|(name, _)| name.starts_with("org.virtualworkspaces1")) {
            for method in file.split("<method ").skip(1) {
                let text = method.split("</method>").next().unwrap();
                let inputs: Vec<&str> = text.split("<arg ").filter(|arg| arg.contains("direction=\"in\"")).collect();
                let last = inputs.last().unwrap();
                assert!(last.starts_with("name=\"options\" type=\"a{sv}\""), "{name}: {text}");
            }
        }
    }
}
