"""Where workers live and how they are started and watched."""
