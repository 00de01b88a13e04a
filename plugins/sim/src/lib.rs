//! vws-plugin-sim
