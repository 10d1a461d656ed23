"""Write the bundled sample datasets: our own rows in the exact shapes of the real sets.

Run by hand when a row is to change:  python -m scripts.make_samples
Every row is one of the subjects below seen from one of the angles below, so that no two are alike.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

SAMPLES = Path(__file__).parent.parent / "llamafactory_configs" / "samples"
INSTRUCTION = "你是一个医学专家，你需要根据用户的问题，给出带有思考的回答。"


class Condition(NamedTuple):
    """A complaint: its name, what is felt, what it is confused with, the test, the care, the alarm sign."""

    name: str
    symptoms: str
    differs_from: str
    test: str
    care: str
    alarm: str


CONDITIONS = [
    Condition(
        "缺铁性贫血",
        "乏力、面色苍白、活动后心慌",
        "地中海贫血",
        "血常规和血清铁蛋白",
        "口服铁剂并多吃红肉和动物肝脏",
        "静息时也气短或晕厥",
    ),
    Condition(
        "急性胃肠炎", "腹泻、呕吐、脐周隐痛", "急性阑尾炎", "大便常规", "口服补液盐，清淡饮食", "便血或持续高热"
    ),
    Condition(
        "过敏性鼻炎",
        "晨起连续打喷嚏、清水样鼻涕、鼻痒",
        "普通感冒",
        "过敏原检测",
        "避开过敏原，使用鼻用激素",
        "喘息或呼吸困难",
    ),
    Condition(
        "偏头痛",
        "一侧搏动性头痛、怕光、恶心",
        "紧张性头痛",
        "神经科查体",
        "规律作息，发作早期服用止痛药",
        "突发剧烈头痛或肢体无力",
    ),
    Condition(
        "高血压",
        "头晕、后颈发紧，或没有任何不适",
        "焦虑引起的短暂血压升高",
        "家庭血压监测和动态血压",
        "限盐、减重并按时服药",
        "胸痛或说话不清",
    ),
    Condition(
        "2型糖尿病",
        "口渴、多尿、体重下降",
        "尿崩症",
        "空腹血糖和糖化血红蛋白",
        "控制主食、规律运动并遵医嘱用药",
        "恶心呕吐伴呼吸有烂苹果味",
    ),
    Condition(
        "甲状腺功能减退",
        "怕冷、便秘、体重增加",
        "抑郁状态",
        "甲状腺功能五项",
        "补充左甲状腺素并定期复查",
        "嗜睡且体温明显下降",
    ),
    Condition(
        "尿路感染",
        "尿频、尿急、排尿灼痛",
        "间质性膀胱炎",
        "尿常规和尿培养",
        "多饮水并按疗程服用抗生素",
        "腰痛伴寒战高热",
    ),
    Condition(
        "支气管哮喘",
        "夜间咳嗽、喘息、胸闷",
        "慢性阻塞性肺疾病",
        "肺功能和支气管舒张试验",
        "规范吸入激素，随身携带缓解药",
        "说不出整句话或嘴唇发紫",
    ),
    Condition(
        "社区获得性肺炎",
        "发热、咳黄痰、胸痛",
        "急性支气管炎",
        "胸部X线片和血常规",
        "按医嘱足疗程使用抗菌药物并休息",
        "呼吸急促或意识模糊",
    ),
    Condition(
        "痛风",
        "夜间突发大脚趾红肿热痛",
        "感染性关节炎",
        "血尿酸和关节超声",
        "急性期抗炎止痛，缓解期降尿酸",
        "关节红肿伴持续高热",
    ),
    Condition(
        "腰椎间盘突出",
        "腰痛向小腿外侧放射、久坐加重",
        "梨状肌综合征",
        "腰椎磁共振",
        "短期休息后做核心肌群锻炼",
        "大小便失禁或会阴麻木",
    ),
    Condition(
        "胃食管反流病",
        "餐后烧心、反酸、平卧加重",
        "冠心病心绞痛",
        "胃镜或质子泵抑制剂试验",
        "抬高床头、睡前三小时不进食",
        "吞咽困难或黑便",
    ),
    Condition("湿疹", "皮肤红斑、瘙痒、反复渗出", "手足癣", "真菌镜检", "坚持保湿并短期外用激素", "大片糜烂并发热"),
    Condition(
        "带状疱疹",
        "单侧成簇水疱、刺痛",
        "接触性皮炎",
        "皮损形态和必要时病毒检测",
        "七十二小时内开始抗病毒治疗",
        "眼周出疹或视物模糊",
    ),
    Condition(
        "急性扁桃体炎",
        "咽痛、发热、吞咽时加重",
        "传染性单核细胞增多症",
        "咽拭子和血常规",
        "充分休息，细菌感染时使用青霉素类",
        "张口困难或流口水",
    ),
    Condition(
        "干眼症",
        "眼干、异物感、视物易疲劳",
        "过敏性结膜炎",
        "泪膜破裂时间",
        "减少连续看屏幕，使用人工泪液",
        "眼痛伴视力突然下降",
    ),
    Condition(
        "失眠障碍",
        "入睡困难、早醒、白天疲倦",
        "睡眠呼吸暂停",
        "睡眠日记和必要时多导睡眠图",
        "固定起床时间并做失眠认知行为治疗",
        "出现轻生念头",
    ),
    Condition(
        "良性阵发性位置性眩晕",
        "翻身时天旋地转、持续不到一分钟",
        "梅尼埃病",
        "变位试验",
        "手法复位",
        "伴有复视或走路不稳",
    ),
    Condition(
        "膝骨关节炎",
        "上下楼膝痛、晨僵少于半小时",
        "类风湿关节炎",
        "膝关节X线片",
        "减重、股四头肌锻炼和外用止痛药",
        "膝盖突然锁死不能伸直",
    ),
    Condition(
        "功能性便秘",
        "排便费力、三天以上一次、便质干硬",
        "肠道肿瘤",
        "直肠指检和必要时肠镜",
        "增加膳食纤维和饮水，定时排便",
        "便血或体重快速下降",
    ),
    Condition(
        "肾结石",
        "腰部阵发绞痛、血尿、恶心",
        "急性胰腺炎",
        "泌尿系超声和尿常规",
        "止痛、多饮水，大结石需碎石",
        "发热寒战或无尿",
    ),
    Condition(
        "心房颤动",
        "心慌、脉搏不齐、乏力",
        "频发早搏",
        "心电图或动态心电图",
        "控制心率并评估是否抗凝",
        "一侧肢体突然无力",
    ),
    Condition(
        "儿童手足口病",
        "手足皮疹、口腔疱疹、发热",
        "水痘",
        "临床查体和必要时肠道病毒检测",
        "退热、补液并隔离",
        "精神差、频繁抽动或手脚冰凉",
    ),
    Condition(
        "骨质疏松",
        "腰背酸痛、身高变矮",
        "多发性骨髓瘤",
        "双能X线骨密度",
        "补充钙和维生素D，做负重锻炼",
        "轻微碰撞后剧烈背痛",
    ),
    Condition(
        "慢性乙型肝炎",
        "多无症状，或易疲劳、右上腹不适",
        "脂肪肝",
        "乙肝两对半和病毒载量",
        "定期复查，符合指征时长期抗病毒",
        "皮肤发黄或呕血",
    ),
]

# Each angle: (question, thought, answer) with the condition's fields.
ANGLES = [
    (
        "最近总是{symptoms}，这会是{name}吗？",
        "用户描述的是{symptoms}。这些表现与{name}相符，但也要想到{differs_from}。先说可能性，再说怎样确认，最后提醒危险信号。",
        "有可能。{symptoms}是{name}的常见表现，不过{differs_from}也会有类似感觉。建议先做{test}来确认。如果出现{alarm}，请马上就医。",
    ),
    (
        "怀疑自己得了{name}，应该先做什么检查？",
        "要回答检查的选择。{name}最有价值的是{test}，它同时能帮助排除{differs_from}。检查前后还应说明意义。",
        "首选{test}。它既能支持{name}的诊断，也有助于排除{differs_from}。拿到结果后请由医生结合症状判断。",
    ),
    (
        "{name}和{differs_from}怎么区分？",
        "两者容易混淆，关键在症状特点和检查。{name}的特点是{symptoms}，确认靠{test}。",
        "{name}的典型表现是{symptoms}；如果症状不符，就要考虑{differs_from}。可靠的办法是做{test}，不要只凭感觉判断。",
    ),
    (
        "确诊{name}以后，平时应该怎么做？",
        "问题是日常处理。核心措施是{care}，还要告诉他何时复诊：出现{alarm}就不能等。",
        "日常可以这样做：{care}。同时留意身体变化，一旦{alarm}，应立即去医院。",
    ),
    (
        "{name}在什么情况下必须马上去医院？",
        "需要给出明确的危险信号。{name}最要紧的是{alarm}，其余情况可以预约门诊。",
        "如果出现{alarm}，请立即就医。没有这些情况时，可以预约门诊做{test}。",
    ),
    (
        "家里老人有{name}，照顾时要注意什么？",
        "老人表现可能不典型，用药也要更小心。重点是{care}，并教家属识别{alarm}。",
        "照顾老人时，重点是{care}，并核对正在服用的其他药物。请家人记住危险信号：{alarm}。",
    ),
    (
        "{name}一定要吃药吗？能不能只靠调理？",
        "用户希望避免用药。要说明非药物措施的作用和局限：{care}。是否用药取决于{test}的结果。",
        "要看病情。基础措施是{care}；是否需要药物，应根据{test}的结果由医生决定，不要自行停药。",
    ),
    (
        "医生说我是{name}，可我觉得更像{differs_from}，要不要复查？",
        "用户怀疑诊断。应尊重疑问，说明依据：{name}的表现为{symptoms}，客观证据来自{test}。",
        "您的疑问可以理解。如果您的症状并不是{symptoms}，复查{test}是合理的。把结果带给医生，一起核对是否为{differs_from}。",
    ),
    (
        "请用一句话告诉我{name}是什么感觉。",
        "只要一句话，概括症状即可：{symptoms}。",
        "{name}最常见的感觉是{symptoms}。",
    ),
    (
        "做完{test}结果正常，还需要担心{name}吗？",
        "检查正常会降低{name}的可能，但不能完全排除早期情况。若仍有{symptoms}，应随访并考虑{differs_from}。",
        "结果正常让{name}的可能性变小。如果{symptoms}仍反复出现，请在两到四周后复诊，并请医生评估{differs_from}。",
    ),
]


class Topic(NamedTuple):
    """A subject: its name, what it is, an everyday comparison, a use, a mistake, an example."""

    name: str
    meaning: str
    comparison: str
    use: str
    mistake: str
    example: str


TOPICS = [
    Topic(
        "a hash table",
        "a structure that finds a value by computing a slot from its key",
        "a cloakroom where the ticket number tells you the hook",
        "counting words in a text",
        "using a key that changes after it was stored",
        "`ages = {'Ada': 36}`",
    ),
    Topic(
        "recursion",
        "a function that solves a problem by calling itself on a smaller one",
        "a box that holds a smaller box of the same kind",
        "walking through folders inside folders",
        "forgetting the case that stops it",
        "`def depth(n): return 0 if n == 0 else 1 + depth(n - 1)`",
    ),
    Topic(
        "a database index",
        "a sorted copy of a column that points back to the rows",
        "the index at the end of a cookbook",
        "looking up a customer by e-mail",
        "adding one to every column and slowing each write",
        "`CREATE INDEX by_mail ON users (mail);`",
    ),
    Topic(
        "the derivative",
        "the rate at which a function changes at a point",
        "the number on a car's speedometer",
        "finding where a cost is lowest",
        "confusing the slope with the value",
        "the derivative of x² is 2x",
    ),
    Topic(
        "compound interest",
        "interest that is paid on earlier interest as well",
        "a snowball that grows as it rolls",
        "comparing two savings plans",
        "adding the yearly rates instead of multiplying",
        "100 at 5 % for 2 years becomes 110.25",
    ),
    Topic(
        "photosynthesis",
        "the way plants turn light, water and carbon dioxide into sugar and oxygen",
        "a solar panel that stores its power as food",
        "explaining why leaves face the sun",
        "thinking that plants do not breathe at night",
        "a leaf in the shade grows more slowly",
    ),
    Topic(
        "a unit test",
        "a small program that checks one behaviour of another program",
        "tasting the soup before serving it",
        "changing code without fear",
        "testing the mock instead of the code",
        "`assert add(2, 2) == 4`",
    ),
    Topic(
        "version control",
        "a record of every change to a set of files",
        "a diary in which no page can be torn out",
        "finding the change that broke a program",
        "one huge commit a week",
        "`git commit -m 'Name the units'`",
    ),
    Topic(
        "the median",
        "the middle value of a sorted list",
        "the person in the middle of a queue sorted by height",
        "describing incomes fairly",
        "forgetting to sort first",
        "the median of 1, 3, 100 is 3",
    ),
    Topic(
        "inflation",
        "a general rise of prices over time",
        "a ruler that shrinks a little every year",
        "planning a pension",
        "comparing salaries of different years directly",
        "at 3 % a year, 100 today buys what 97 bought",
    ),
    Topic(
        "an API",
        "an agreed way for one program to ask another for something",
        "a waiter who carries orders to the kitchen",
        "showing the weather in an app",
        "depending on fields that were never promised",
        "`GET /users/7`",
    ),
    Topic(
        "a cache",
        "a small fast store of answers that were computed before",
        "the notes you keep on your desk",
        "serving the same page to many readers",
        "never throwing old entries away",
        "`@functools.cache` above a function",
    ),
    Topic(
        "probability",
        "a number from 0 to 1 that says how likely something is",
        "the share of red balls in a bag",
        "deciding whether to carry an umbrella",
        "expecting six tails to make heads more likely",
        "a fair die shows a four with probability 1/6",
    ),
    Topic(
        "gravity",
        "the pull between any two masses",
        "a mattress that sags under a heavy guest",
        "predicting the tides",
        "thinking that there is none in orbit",
        "an apple falls about 5 metres in the first second",
    ),
    Topic(
        "encryption",
        "changing a message so that only the holder of a key can read it",
        "a locked box sent by post",
        "sending a password over the network",
        "writing one's own cipher",
        "`https://` in front of an address",
    ),
    Topic(
        "a linked list",
        "a chain of items in which each knows the next",
        "a treasure hunt with a clue at every stop",
        "adding items at the front quickly",
        "using it where items are looked up by position",
        "`Node(value, next=None)`",
    ),
    Topic(
        "supply and demand",
        "the way a price settles between those who sell and those who buy",
        "a seesaw that finds its balance",
        "guessing why tickets get dearer",
        "assuming that demand never changes",
        "umbrellas cost more on a rainy day",
    ),
    Topic(
        "the water cycle",
        "the way water rises as vapour, falls as rain and flows back",
        "a fountain that pumps the same water round",
        "explaining clouds to a child",
        "believing that new water is made",
        "a puddle dries and becomes part of a cloud",
    ),
    Topic(
        "a regular expression",
        "a short pattern that describes many strings",
        "a sieve with holes of a certain shape",
        "finding dates in a log",
        "parsing nested brackets with it",
        r"`\d{4}-\d{2}-\d{2}`",
    ),
    Topic(
        "binary search",
        "halving a sorted list again and again until the item is found",
        "opening a dictionary in the middle",
        "finding a name among a million",
        "running it on a list that is not sorted",
        "20 steps are enough for a million names",
    ),
    Topic(
        "a contract",
        "an agreement that a court would enforce",
        "a handshake that is written down",
        "renting a flat",
        "signing without reading the notice period",
        "a lease with a start date and a rent",
    ),
    Topic(
        "active listening",
        "paying full attention and saying back what was heard",
        "a mirror for another person's words",
        "calming an argument",
        "preparing the answer while the other still speaks",
        "'So you felt left out, did I get that right?'",
    ),
    Topic(
        "a budget",
        "a plan for what comes in and what goes out",
        "a map drawn before the journey",
        "saving for a holiday",
        "leaving out the bills that come once a year",
        "rent 900, food 400, savings 200",
    ),
    Topic(
        "sleep",
        "the state in which body and memory are put in order",
        "the night shift that cleans the office",
        "learning for an exam",
        "catching up only at the weekend",
        "adults need seven to nine hours",
    ),
]

CHAT_ANGLES = [
    ("What is {name}?", "In short, {name} is {meaning}. A picture that helps: {comparison}."),
    ("Explain {name} to a ten-year-old.", "Think of {comparison}. That is what {name} is like: {meaning}."),
    ("Where would I use {name} in practice?", "A typical use of {name} is {use}. It fits because it is {meaning}."),
    (
        "What do people get wrong about {name}?",
        "The usual mistake is {mistake}. Remember that {name} is {meaning}.",
    ),
    ("Give me one example of {name}.", "Here is one: {example}. It shows {meaning}."),
    ("Write three bullet points about {name}.", "- Meaning: {meaning}\n- Use: {use}\n- Beware of: {mistake}"),
    ("Give me a comparison for {name}.", "Picture {comparison}."),
    ("Why should I care about {name}?", "Because it helps with {use}. Without it you may end up {mistake}."),
    ("Make a quiz question about {name}, with its answer.", "Question: what is {name} good for?\nAnswer: {use}."),
    ("Summarise {name} in one sentence.", "{name} means {meaning}, for example {example}."),
]
FOLLOW_UPS = [
    ("Can you give an example?", "Of course: {example}."),
    ("And what should I avoid?", "Avoid {mistake}."),
    ("How would you picture it?", "I would picture {comparison}."),
]
SYSTEMS = ["You are a patient teacher.", "You answer briefly and give an example.", "You are a helpful assistant."]


def make_medical_rows() -> list[dict[str, object]]:
    """Return one row for each condition and angle."""
    rows: list[dict[str, object]] = []
    for angle_number, angle in enumerate(ANGLES):
        for condition_number, condition in enumerate(CONDITIONS):
            question, think, answer = (text.format(**condition._asdict()) for text in angle)
            quality = round(8 + (7 * angle_number + 3 * condition_number) % 20 / 10, 1)
            rows.append(
                {
                    "Instruction": INSTRUCTION,
                    "question": question,
                    "think": think,
                    "answer": answer,
                    "metrics": {"quality": quality, "think_length": len(think), "answer_length": len(answer)},
                }
            )
    return rows


def make_chat_rows() -> list[dict[str, object]]:
    """Return one conversation for each topic and angle: one in four has a system turn, one in three goes on."""
    rows: list[dict[str, object]] = []
    for angle_number, (question, answer) in enumerate(CHAT_ANGLES):
        for topic_number, topic in enumerate(TOPICS):
            number = angle_number * len(TOPICS) + topic_number
            fields = topic._asdict()
            turns = [("human", question.format(**fields)), ("gpt", sentence(answer.format(**fields)))]
            for ask, reply in FOLLOW_UPS[: number % 3 if number % 2 else 0]:
                turns += [("human", ask), ("gpt", sentence(reply.format(**fields)))]
            if number % 4 == 0:
                turns.insert(0, ("system", SYSTEMS[number // 4 % len(SYSTEMS)]))
            rows.append(
                {
                    "conversations": [{"from": role, "value": value} for role, value in turns],
                    "source": "infini-instruct-top-500k" if number % 5 else "WebInstructSub_axolotl",
                    "score": round(4 + (number * 37 % 120) / 100, 3),
                }
            )
    return rows


def sentence(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def main() -> None:
    """Write both files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    SAMPLES.mkdir(parents=True, exist_ok=True)
    with (SAMPLES / "r1_data_example.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        for row in make_medical_rows():
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    schema = pa.schema([("conversations", pa.list_(turn)), ("source", pa.string()), ("score", pa.float64())])
    table = pa.Table.from_pylist(make_chat_rows(), schema=schema)
    pq.write_table(table, SAMPLES / "finetome_example.parquet", row_group_size=100)
    print(f"{len(make_medical_rows())} medical rows, {table.num_rows} conversations in {SAMPLES.name}/")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
