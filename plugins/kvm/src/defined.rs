//! Definitions of machines: given to libvirt, validated, read back and compared; and what of that need not be done again.
//!
//! Owns: what libvirt is known to have understood. A definition is validated against libvirt's schema, which takes longer than all else
//! about it, once for each shape: what differs between two machines of one shape is id, UUID, name and MAC, which are checked before.
//! And one that was read back and compared is not given a second time while libvirt still says the very same of it: between staging
//! a machine and starting it. All of it is forgotten with the connection, because another libvirt may answer the next one.
//! Must not know: what a definition says.

use crate::host::lock;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

/// Shapes that are remembered, and machines; with one more all are forgotten.
const KEPT: usize = 256;

/// What libvirt has understood.
#[derive(Default)]
pub struct Defined {
    shapes: Mutex<HashSet<String>>,
    /// By workspace: what was asked for, and what libvirt said of it.
    machines: Mutex<HashMap<String, (String, String)>>,
}

impl Defined {
    /// Forgets all.
    pub fn forget(&self) {
        lock(&self.shapes).clear();
        lock(&self.machines).clear();
    }

    /// Flags for a definition of this shape.
    pub fn flags(&self, shape: &str) -> u32 {
        if lock(&self.shapes).contains(shape) { 0 } else { sys::VIR_DOMAIN_DEFINE_VALIDATE }
    }

    /// libvirt took `xml`, of this shape, for the workspace, and says `back` of it, which is right.
    pub fn note(&self, workspace: &str, shape: String, xml: String, back: String) {
        let (mut shapes, mut machines) = (lock(&self.shapes), lock(&self.machines));
        if shapes.len() >= KEPT {
            shapes.clear();
        }
        if machines.len() >= KEPT {
            machines.clear();
        }
        shapes.insert(shape);
        machines.insert(workspace.to_owned(), (xml, back));
    }

    /// Whether `domain`, the workspace's, is what `xml` asks for, as it was found to be before. Asked once: what is started changes.
    pub fn is(&self, workspace: &str, xml: &str, domain: &Domain) -> Result<bool, Error> {
        let Some((asked, back)) = lock(&self.machines).remove(workspace) else { return Ok(false) };
        Ok(asked == xml && domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)? == back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_validated_once_and_again_after_the_connection_broke() {
        let defined = Defined::default();
        assert_eq!(defined.flags("one"), sys::VIR_DOMAIN_DEFINE_VALIDATE);
        defined.note("w", "one".to_owned(), "xml".to_owned(), "back".to_owned());
        assert_eq!((defined.flags("one"), defined.flags("other")), (0, sys::VIR_DOMAIN_DEFINE_VALIDATE));
        defined.forget();
        assert_eq!(defined.flags("one"), sys::VIR_DOMAIN_DEFINE_VALIDATE);
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let defined = Defined::default();
        for n in 0..3 * KEPT {
            defined.note(&n.to_string(), n.to_string(), String::new(), String::new());
        }
        assert!(lock(&defined.shapes).len() <= KEPT && lock(&defined.machines).len() <= KEPT);
    }
}
