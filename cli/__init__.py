"""What a person types: one small file per source, sink and tool."""
