/dev/fd/3: line 209: ./k: No such file or directory
