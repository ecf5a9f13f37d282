"""Every file of a corpus or a folder of files: names, plan file, sidecars, tables, description; open and read one."""
