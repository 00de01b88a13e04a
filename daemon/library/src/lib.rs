//! vws-library
