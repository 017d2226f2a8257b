// The same events as the classes of 14 vLLM releases encode them.

let releaseSamples: [Sample] = [
  Sample(
    name: "0.9.2: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGWq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwAA=
      """),
  Sample(
    name: "0.9.2: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGWq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABAA==
      """),
  Sample(
    name: "0.9.2: removed, two blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      removed 2 6897620363584575534
      """,
    base64: """
      k8tB2sCSPtAAAJGSrEJsb2NrUmVtb3ZlZJLPAQvRFplILqnPP0rzcF838bcA
      """),
  Sample(
    name: "0.9.2, 0.10.2, 0.11.2, 0.12.0, 0.14.1, 0.16.0, 0.18.1, 0.20.2, 0.22.1, 0.23.0: cleared",
    timestamp: 1795311867.25, rank: 0,
    events: """
      cleared
      """,
    base64: """
      k8tB2sCSPtAAAJGRsEFsbEJsb2Nrc0NsZWFyZWQA
      """),
  Sample(
    name: "0.9.2: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [] [] 0
      removed 2 6897620363584575534
      cleared
      """,
    base64: """
      k8tB2sCSPtAAAJSWq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwJarQmxv
      Y2tTdG9yZWSRzwEL0RaZSC6pzz9K83BfN/G33AAQzQfQzQfRzQfSzQfTzQfUzQfVzQfWzQfXzQfYzQfZzQfazQfbzQfczQfdzQfe
      zQffEAGSrEJsb2NrUmVtb3ZlZJLPAQvRFplILqnPP0rzcF838beRsEFsbEJsb2Nrc0NsZWFyZWTA
      """),
  Sample(
    name: "0.10.2, 0.11.2, 0.12.0: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGXq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFUA
      """),
  Sample(
    name: "0.10.2, 0.11.2, 0.12.0: stored, child of the second, with an adapter", timestamp: 1795311867.25,
    rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGXq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABo0dQVQA=
      """),
  Sample(
    name: "0.10.2, 0.11.2, 0.12.0, 0.14.1, 0.16.0, 0.18.1: removed, two blocks", timestamp: 1795311867.25,
    rank: 0,
    events: """
      removed 2 6897620363584575534
      """,
    base64: """
      k8tB2sCSPtAAAJGTrEJsb2NrUmVtb3ZlZJLPAQvRFplILqnPP0rzcF838bejR1BVAA==
      """),
  Sample(
    name: "0.10.2, 0.11.2, 0.12.0: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGXq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D
      7s0D780D8M0D8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0E
      BxDAo0dQVQA=
      """),
  Sample(
    name: "0.10.2, 0.11.2, 0.12.0: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25,
    rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWXq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFWX
      q0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H2c0H2s0H280H3M0H
      3c0H3s0H3xABo0dQVZOsQmxvY2tSZW1vdmVkks8BC9EWmUguqc8/SvNwXzfxt6NHUFWRsEFsbEJsb2Nrc0NsZWFyZWSXq0Jsb2Nr
      U3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/
      xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D7s0D780D8M0D8c0D8s0D880D
      9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0EBxDAo0dQVcA=
      """),
  Sample(
    name: "0.14.1, 0.16.0: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGYq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      AA==
      """),
  Sample(
    name: "0.14.1, 0.16.0: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 1
      """,
    base64: """
      k8tB2sCSPtAAAJGYq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABo0dQVadteS1sb3JhAA==
      """),
  Sample(
    name: "0.14.1, 0.16.0: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGYq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D
      7s0D780D8M0D8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0E
      BxDAo0dQVcAA
      """),
  Sample(
    name: "0.14.1, 0.16.0: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 1
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWYq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      mKtCbG9ja1N0b3JlZJHPAQvRFplILqnPP0rzcF838bfcABDNB9DNB9HNB9LNB9PNB9TNB9XNB9bNB9fNB9jNB9nNB9rNB9vNB9zN
      B93NB97NB98QAaNHUFWnbXktbG9yYZOsQmxvY2tSZW1vdmVkks8BC9EWmUguqc8/SvNwXzfxt6NHUFWRsEFsbEJsb2Nrc0NsZWFy
      ZWSYq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2
      Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D7s0D780D8M0D
      8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0EBxDAo0dQVcDA
      """),
  Sample(
    name: "0.18.1: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGZq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wAA=
      """),
  Sample(
    name: "0.18.1: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGZq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABo0dQVadteS1sb3JhkZKnbXktbG9yYaRzYWx0AA==
      """),
  Sample(
    name: "0.18.1: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGZq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D
      7s0D780D8M0D8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0E
      BxDAo0dQVcDAAA==
      """),
  Sample(
    name: "0.18.1: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWZq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wJmrQmxvY2tTdG9yZWSRzwEL0RaZSC6pzz9K83BfN/G33AAQzQfQzQfRzQfSzQfTzQfUzQfVzQfWzQfXzQfYzQfZzQfazQfbzQfc
      zQfdzQfezQffEAGjR1BVp215LWxvcmGRkqdteS1sb3JhpHNhbHSTrEJsb2NrUmVtb3ZlZJLPAQvRFplILqnPP0rzcF838bejR1BV
      kbBBbGxCbG9ja3NDbGVhcmVkmatCbG9ja1N0b3JlZJLEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fxCAgISIjJCUm
      JygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P8QgQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl/cACDNA+jNA+nNA+rNA+vN
      A+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATN
      BAXNBAbNBAcQwKNHUFXAwMA=
      """),
  Sample(
    name: "0.20.2: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGaq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wMAA
      """),
  Sample(
    name: "0.20.2: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGaq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABo0dQVadteS1sb3JhkZKnbXktbG9yYaRzYWx0AAA=
      """),
  Sample(
    name: "0.20.2, 0.22.1, 0.23.0: removed, two blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      removed 2 6897620363584575534
      """,
    base64: """
      k8tB2sCSPtAAAJGUrEJsb2NrUmVtb3ZlZJLPAQvRFplILqnPP0rzcF838bejR1BVAAA=
      """),
  Sample(
    name: "0.20.2: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGaq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D
      7s0D780D8M0D8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0E
      BxDAo0dQVcDAwAA=
      """),
  Sample(
    name: "0.20.2: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWaq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wMCaq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H2c0H2s0H280H
      3M0H3c0H3s0H3xABo0dQVadteS1sb3JhkZKnbXktbG9yYaRzYWx0AJSsQmxvY2tSZW1vdmVkks8BC9EWmUguqc8/SvNwXzfxt6NH
      UFUAkbBBbGxCbG9ja3NDbGVhcmVkmqtCbG9ja1N0b3JlZJLEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fxCAgISIj
      JCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P8QgQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl/cACDNA+jNA+nNA+rN
      A+vNA+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPN
      BATNBAXNBAbNBAcQwKNHUFXAwMDA
      """),
  Sample(
    name: "0.22.1, 0.23.0: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGcq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wMDAwAA=
      """),
  Sample(
    name: "0.22.1, 0.23.0: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGcq0Jsb2NrU3RvcmVkkc8BC9EWmUguqc8/SvNwXzfxt9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H
      2c0H2s0H280H3M0H3c0H3s0H3xABo0dQVadteS1sb3JhkZKnbXktbG9yYaRzYWx0AK5mdWxsX2F0dGVudGlvbsAA
      """),
  Sample(
    name: "0.22.1, 0.23.0: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGcq0Jsb2NrU3RvcmVkksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/xCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX9wAIM0D6M0D6c0D6s0D680D7M0D7c0D
      7s0D780D8M0D8c0D8s0D880D9M0D9c0D9s0D980D+M0D+c0D+s0D+80D/M0D/c0D/s0D/80EAM0EAc0EAs0EA80EBM0EBc0EBs0E
      BxDAo0dQVcDAwMDAAA==
      """),
  Sample(
    name: "0.22.1, 0.23.0: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWcq0Jsb2NrU3RvcmVkks/FTAyNrIxhE88/SvNwXzfxt8DcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DN
      A/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXA
      wMDAwJyrQmxvY2tTdG9yZWSRzwEL0RaZSC6pzz9K83BfN/G33AAQzQfQzQfRzQfSzQfTzQfUzQfVzQfWzQfXzQfYzQfZzQfazQfb
      zQfczQfdzQfezQffEAGjR1BVp215LWxvcmGRkqdteS1sb3JhpHNhbHQArmZ1bGxfYXR0ZW50aW9uwJSsQmxvY2tSZW1vdmVkks8B
      C9EWmUguqc8/SvNwXzfxt6NHUFUAkbBBbGxCbG9ja3NDbGVhcmVknKtCbG9ja1N0b3JlZJLEIAABAgMEBQYHCAkKCwwNDg8QERIT
      FBUWFxgZGhscHR4fxCAgISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P8QgQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFla
      W1xdXl/cACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3N
      A/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAcQwKNHUFXAwMDAwMA=
      """),
  Sample(
    name: "0.24.0, 0.26.0, 0.30.0, 0.32.0: stored, two root blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGIpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzks/FTAyNrIxhE88/SvNwXzfxt7FwYXJlbnRfYmxvY2tf
      aGFzaMCpdG9rZW5faWRz3AAgzQPozQPpzQPqzQPrzQPszQPtzQPuzQPvzQPwzQPxzQPyzQPzzQP0zQP1zQP2zQP3zQP4zQP5zQP6
      zQP7zQP8zQP9zQP+zQP/zQQAzQQBzQQCzQQDzQQEzQQFzQQGzQQHqmJsb2NrX3NpemUQp2xvcmFfaWTApm1lZGl1baNHUFWpbG9y
      YV9uYW1lwAA=
      """),
  Sample(
    name: "0.24.0: stored, child of the second, with an adapter", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGLpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzkc8BC9EWmUguqbFwYXJlbnRfYmxvY2tfaGFzaM8/SvNw
      Xzfxt6l0b2tlbl9pZHPcABDNB9DNB9HNB9LNB9PNB9TNB9XNB9bNB9fNB9jNB9nNB9rNB9vNB9zNB93NB97NB9+qYmxvY2tfc2l6
      ZRCnbG9yYV9pZAGmbWVkaXVto0dQValsb3JhX25hbWWnbXktbG9yYapleHRyYV9rZXlzkZKnbXktbG9yYaRzYWx0qWdyb3VwX2lk
      eACya3ZfY2FjaGVfc3BlY19raW5krmZ1bGxfYXR0ZW50aW9uAA==
      """),
  Sample(
    name: "0.24.0, 0.26.0, 0.30.0, 0.32.0: removed, two blocks", timestamp: 1795311867.25, rank: 0,
    events: """
      removed 2 6897620363584575534
      """,
    base64: """
      k8tB2sCSPtAAAJGEpHR5cGWsQmxvY2tSZW1vdmVkrGJsb2NrX2hhc2hlc5LPAQvRFplILqnPP0rzcF838bembWVkaXVto0dQValn
      cm91cF9pZHgAAA==
      """),
  Sample(
    name: "0.24.0, 0.26.0, 0.30.0, 0.32.0: cleared", timestamp: 1795311867.25, rank: 0,
    events: """
      cleared
      """,
    base64: """
      k8tB2sCSPtAAAJGBpHR5cGWwQWxsQmxvY2tzQ2xlYXJlZAA=
      """),
  Sample(
    name: "0.24.0, 0.26.0, 0.30.0, 0.32.0: stored, hashes as bytes", timestamp: 1795311867.25, rank: 0,
    events: """
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJGIpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd
      Hh/EICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/sXBhcmVudF9ibG9ja19oYXNoxCBAQUJDREVGR0hJSktMTU5PUFFS
      U1RVVldYWVpbXF1eX6l0b2tlbl9pZHPcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fN
      A/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAeqYmxvY2tfc2l6ZRCnbG9yYV9pZMCmbWVkaXVt
      o0dQValsb3JhX25hbWXAAA==
      """),
  Sample(
    name: "0.24.0: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25, rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWIpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzks/FTAyNrIxhE88/SvNwXzfxt7FwYXJlbnRfYmxvY2tf
      aGFzaMCpdG9rZW5faWRz3AAgzQPozQPpzQPqzQPrzQPszQPtzQPuzQPvzQPwzQPxzQPyzQPzzQP0zQP1zQP2zQP3zQP4zQP5zQP6
      zQP7zQP8zQP9zQP+zQP/zQQAzQQBzQQCzQQDzQQEzQQFzQQGzQQHqmJsb2NrX3NpemUQp2xvcmFfaWTApm1lZGl1baNHUFWpbG9y
      YV9uYW1lwIukdHlwZatCbG9ja1N0b3JlZKxibG9ja19oYXNoZXORzwEL0RaZSC6psXBhcmVudF9ibG9ja19oYXNozz9K83BfN/G3
      qXRva2VuX2lkc9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H2c0H2s0H280H3M0H3c0H3s0H36pibG9ja19zaXplEKds
      b3JhX2lkAaZtZWRpdW2jR1BVqWxvcmFfbmFtZadteS1sb3JhqmV4dHJhX2tleXORkqdteS1sb3JhpHNhbHSpZ3JvdXBfaWR4ALJr
      dl9jYWNoZV9zcGVjX2tpbmSuZnVsbF9hdHRlbnRpb26EpHR5cGWsQmxvY2tSZW1vdmVkrGJsb2NrX2hhc2hlc5LPAQvRFplILqnP
      P0rzcF838bembWVkaXVto0dQValncm91cF9pZHgAgaR0eXBlsEFsbEJsb2Nrc0NsZWFyZWSIpHR5cGWrQmxvY2tTdG9yZWSsYmxv
      Y2tfaGFzaGVzksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8
      PT4/sXBhcmVudF9ibG9ja19oYXNoxCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX6l0b2tlbl9pZHPcACDNA+jNA+nN
      A+rNA+vNA+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3NA/7NA//NBADNBAHNBALN
      BAPNBATNBAXNBAbNBAeqYmxvY2tfc2l6ZRCnbG9yYV9pZMCmbWVkaXVto0dQValsb3JhX25hbWXAwA==
      """),
  Sample(
    name: "0.26.0, 0.30.0, 0.32.0: stored, child of the second, with an adapter", timestamp: 1795311867.25,
    rank: 0,
    events: """
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      """,
    base64: """
      k8tB2sCSPtAAAJGMpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzkc8BC9EWmUguqbFwYXJlbnRfYmxvY2tfaGFzaM8/SvNw
      Xzfxt6l0b2tlbl9pZHPcABDNB9DNB9HNB9LNB9PNB9TNB9XNB9bNB9fNB9jNB9nNB9rNB9vNB9zNB93NB97NB9+qYmxvY2tfc2l6
      ZRCnbG9yYV9pZAGmbWVkaXVto0dQValsb3JhX25hbWWnbXktbG9yYapleHRyYV9rZXlzkZKnbXktbG9yYaRzYWx0qWdyb3VwX2lk
      eACya3ZfY2FjaGVfc3BlY19raW5krmZ1bGxfYXR0ZW50aW9uqGxvY2FsaXR5pUxPQ0FMAA==
      """),
  Sample(
    name: "0.26.0, 0.30.0, 0.32.0: all in one batch, data_parallel_rank nil", timestamp: 1795311867.25,
    rank: nil,
    events: """
      stored 2 2558177183721304836 32 2031557959868461072 root 16 [] [] 2
      stored 1 75383713772875433 16 4518015568705110024 4560725236625437111 16 [my-lora] [] 0
      removed 2 6897620363584575534
      cleared
      stored 2 2540984031806481408 32 2031557959868461072 6366218896703053407 16 [] [] 2
      """,
    base64: """
      k8tB2sCSPtAAAJWIpHR5cGWrQmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzks/FTAyNrIxhE88/SvNwXzfxt7FwYXJlbnRfYmxvY2tf
      aGFzaMCpdG9rZW5faWRz3AAgzQPozQPpzQPqzQPrzQPszQPtzQPuzQPvzQPwzQPxzQPyzQPzzQP0zQP1zQP2zQP3zQP4zQP5zQP6
      zQP7zQP8zQP9zQP+zQP/zQQAzQQBzQQCzQQDzQQEzQQFzQQGzQQHqmJsb2NrX3NpemUQp2xvcmFfaWTApm1lZGl1baNHUFWpbG9y
      YV9uYW1lwIykdHlwZatCbG9ja1N0b3JlZKxibG9ja19oYXNoZXORzwEL0RaZSC6psXBhcmVudF9ibG9ja19oYXNozz9K83BfN/G3
      qXRva2VuX2lkc9wAEM0H0M0H0c0H0s0H080H1M0H1c0H1s0H180H2M0H2c0H2s0H280H3M0H3c0H3s0H36pibG9ja19zaXplEKds
      b3JhX2lkAaZtZWRpdW2jR1BVqWxvcmFfbmFtZadteS1sb3JhqmV4dHJhX2tleXORkqdteS1sb3JhpHNhbHSpZ3JvdXBfaWR4ALJr
      dl9jYWNoZV9zcGVjX2tpbmSuZnVsbF9hdHRlbnRpb26obG9jYWxpdHmlTE9DQUyEpHR5cGWsQmxvY2tSZW1vdmVkrGJsb2NrX2hh
      c2hlc5LPAQvRFplILqnPP0rzcF838bembWVkaXVto0dQValncm91cF9pZHgAgaR0eXBlsEFsbEJsb2Nrc0NsZWFyZWSIpHR5cGWr
      QmxvY2tTdG9yZWSsYmxvY2tfaGFzaGVzksQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/EICAhIiMkJSYnKCkqKywt
      Li8wMTIzNDU2Nzg5Ojs8PT4/sXBhcmVudF9ibG9ja19oYXNoxCBAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX6l0b2tl
      bl9pZHPcACDNA+jNA+nNA+rNA+vNA+zNA+3NA+7NA+/NA/DNA/HNA/LNA/PNA/TNA/XNA/bNA/fNA/jNA/nNA/rNA/vNA/zNA/3N
      A/7NA//NBADNBAHNBALNBAPNBATNBAXNBAbNBAeqYmxvY2tfc2l6ZRCnbG9yYV9pZMCmbWVkaXVto0dQValsb3JhX25hbWXAwA==
      """),
]
