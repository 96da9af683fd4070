"""The estate: on paper, as observed, as touched, as remembered; and a miniature of it in lab/."""
