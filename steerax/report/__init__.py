"""Reports: figures as data, and one self-contained HTML file that draws them."""
