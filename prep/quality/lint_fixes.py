"""What makes right what lint finds, by rule."""

from prep.quality.findings import LintRule

BY_REPAIR = "lfc prep repair FILE -o NEW repairs it"
BY_HAND = "fix it by hand or take the row out: it cannot be repaired without guessing"
ONE_TYPE = "give the column one type in every row, or take it out: LLaMA-Factory reads all columns"
FIXES = {
    LintRule.BOM: "save the file as UTF-8 without a BOM, or lfc prep repair FILE -o NEW",
    LintRule.ENCODING: "save the file as UTF-8",
    LintRule.CRLF: "save the file with \\n line ends, or lfc prep repair FILE -o NEW",
    LintRule.BLANK_LINE: "take the blank lines out, or lfc prep repair FILE -o NEW",
    LintRule.JSON: "write one whole JSON object a line",
    LintRule.FILE_NAME: "rename it to .jsonl: the WebUI's preview reads .json as one document",
    LintRule.INPUT_CHANGED: "make it anew from the input as it is now",
    LintRule.REPEATED_KEY: "take one of the two out: which of them is meant only you know",
    LintRule.NOT_OBJECT: "write one JSON object a line",
    LintRule.COLUMNS: 'give every row the same columns; an unused text is "", an unused history is []',
    LintRule.TYPE: 'write a string; null first and text later stops LLaMA-Factory\'s loader, so write "" or []',
    LintRule.HISTORY: "write [] or a list of [question, answer] pairs of strings",
    LintRule.TURNS: "make the turns alternate, with the dataset's tags",
    LintRule.EMPTY: "fill it or take the row out",
    LintRule.THINK_POLICY: "convert the source again with one --think-policy, or lfc prep repair FILE -o NEW",
    LintRule.HISTORY_THOUGHT: "take thoughts out of earlier turns: Qwen3 drops them too; lfc prep repair does it",
    LintRule.SWITCH: "take the switch out of the question, or the row: a model learns to ignore what it says",
    LintRule.DUPLICATE: "lfc prep convert --dedup question, or take one of the two out",
    LintRule.ANSWERS: "take the row out: nothing can be learnt from it",
    LintRule.LABEL: "write true for a good answer, false for a bad one; KTO needs rows of both",
    LintRule.CALL: "make the call fit the tools' JSON Schema, declare the tool, or take the row out",
    LintRule.MEDIA: "write one placeholder a file, and paths that start from the folder of dataset_info.json",
    LintRule.NO_ROWS: "convert the source again",
}
