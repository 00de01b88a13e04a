//! vws-backend
