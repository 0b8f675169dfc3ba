import os, time  # noqa: E401, I001 (the first line is what is measured)

if os.environ["RANK"] == "0":
    print("FIRST LINE", time.time())
