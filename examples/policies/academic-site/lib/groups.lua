-- Group -> limits; 0 is no limit. `images`: what names of its images begin with; "" for any.
return {
    physics = { max_reserved_minutes = 50000, max_running = 20, max_vcpus = 16, max_minutes = 2880, images = "" },
    course101 = { max_reserved_minutes = 6000, max_running = 30, max_vcpus = 2, max_minutes = 120, images = "course101." },
}
