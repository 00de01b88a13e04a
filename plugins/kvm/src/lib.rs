//! vws-plugin-kvm
